# mmpretrain's ViT of MoCo v3 (fixed positions, a patch embedding that is not trained) at ViT-Tiny's width and half its
# depth for images of 64 px: what its contrastive methods train.
model = dict(
    data_preprocessor=dict(
        type='mstkit.ViewDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    backbone=dict(
        type='mmpretrain.MoCoV3ViT',
        arch=dict(embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768),
        img_size=64,
        patch_size=8,
        stop_grad_conv1=True,
    ),
)
