# mmpretrain's ViT of MoCo v3 (fixed positions, a patch embedding that is not trained) as DeiT-S: 6 heads, where MoCo
# v3's own ViT-S has 12.
model = dict(
    data_preprocessor=dict(
        type='mstkit.ViewDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    backbone=dict(type='mmpretrain.MoCoV3ViT', arch='deit-small', img_size=224, patch_size=16, stop_grad_conv1=True),
)
