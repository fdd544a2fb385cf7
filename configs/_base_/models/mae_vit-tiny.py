# MAE for small sets of small images: ViT-Tiny's width and half its depth at 64 px, and a decoder of two layers.
data_preprocessor = dict(type='ViewDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])

model = dict(
    type='MAE',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='MaskedVisionTransformer',
        arch=dict(embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768),
        img_size=64,
        patch_size=8,
    ),
    decoder=dict(type='ViTDecoder', embed_dims=96, num_layers=2, num_heads=3),
    masker=dict(type='RandomMasker', ratio=0.75, rounding='up'),
)
