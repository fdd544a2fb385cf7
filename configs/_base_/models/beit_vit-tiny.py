# BEiT for small sets of small images: ViT-Tiny's width and half its depth at 64 px, 24 of 64 patches hidden in blocks.
_base_ = './beit_vit-b.py'

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
        layer_scale_init_value=0.1,
        initialization='beit',
    ),
    masker=dict(min_block=5),
)
