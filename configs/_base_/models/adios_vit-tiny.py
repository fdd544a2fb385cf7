# ADIOS for small sets of small images: ViT-Tiny's width and half its depth at 64 px, four masks.
_base_ = './adios_vit-s.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='MaskedVisionTransformer',
        arch=dict(embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768),
        img_size=64,
        patch_size=8,
    ),
    occlusion=dict(masks=4, blocks=5, bottleneck=4),
    hidden_dim=512,
)
