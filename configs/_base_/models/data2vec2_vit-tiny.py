# data2vec 2.0 for small sets of small images: ViT-Tiny's width and half its depth at 64 px, 4 masks of an image, the
# mean of 5 of 6 layers. A teacher of few steps has to follow faster.
_base_ = './data2vec2_vit-b.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='MaskedVisionTransformer',
        arch=dict(embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768),
        img_size=64,
        patch_size=8,
        positions='sincos',
        initialization='trunc_normal',
    ),
    decoder=dict(embed_dims=192),
    target=dict(top=5),
    loss_weight_predict=1.0,
    teacher=dict(_delete_=True, type='MomentumTeacher', momentum=0.99, end_momentum=0.9998),
    masks_per_image=4,
)
