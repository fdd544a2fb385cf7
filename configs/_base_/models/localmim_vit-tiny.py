# LocalMIM for small sets of small images: ViT-Tiny's width and half its depth at 64 px, HOG of cells of 4, 8 and 16 px
# from the second, fourth and last of six blocks.
_base_ = './localmim_vit-b.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='MaskedVisionTransformer',
        arch=dict(embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768),
        img_size=64,
        patch_size=8,
    ),
    layers=(2, 4, -1),
    scales=(2.0, 1.0, 0.5),
    decoder=dict(embed_dims=96, num_heads=3),
)
