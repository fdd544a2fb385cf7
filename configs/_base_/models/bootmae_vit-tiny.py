# BootMAE for small sets of small images: ViT-Tiny's width and half its depth at 64 px, 48 of 64 patches hidden, 9
# of them beside blocks. A teacher of few steps has to follow faster.
_base_ = './bootmae_vit-b.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='MaskedVisionTransformer',
        arch=dict(embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768),
        img_size=64,
        patch_size=8,
    ),
    decoder=dict(embed_dims=96, num_heads=3),
    feature_decoder=dict(num_heads=3),
    masker=dict(min_block=5, max_block=20),
    teacher=dict(schedule=[(0.0, 0.98), (0.125, 0.99), (0.5, 0.999)]),
)
