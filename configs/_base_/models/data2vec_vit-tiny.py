# data2vec for small sets of small images: ViT-Tiny's width and half its depth at 64 px, 39 of 64 patches hidden in
# blocks, the upper 3 of 6 layers predicted. A teacher of few steps has to follow faster.
_base_ = './data2vec_vit-b.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='MaskedVisionTransformer',
        arch=dict(embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768),
        img_size=64,
        patch_size=8,
        positions='none',
        relative_positions='shared',
        qkv_bias='qv_bias',
        layer_scale_init_value=1e-4,
        initialization='beit',
    ),
    teacher=dict(momentum=0.99, end_momentum=0.9998),
    masker=dict(min_block=5),
)
