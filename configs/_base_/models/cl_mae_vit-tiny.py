# CL-MAE for small sets of small images: MAE's encoder and decoder for them, and a masking network of two layers.
_base_ = './cl_mae_vit-b.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='MaskedVisionTransformer',
        arch=dict(embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768),
        img_size=64,
        patch_size=8,
    ),
    decoder=dict(embed_dims=96, num_layers=2, num_heads=3),
    network=dict(num_layers=2),
)
