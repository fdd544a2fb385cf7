# SimMIM for small sets of small images: ViT-Tiny's width and half its depth at 64 px, squares of 16 px hidden.
data_preprocessor = dict(type='ViewDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])

model = dict(
    type='SimMIM',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='MaskedVisionTransformer',
        arch=dict(embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768),
        img_size=64,
        patch_size=8,
    ),
    decoder=dict(type='LinearDecoder'),
    masker=dict(type='RandomMasker', ratio=0.6, rounding='up'),
    mask_patch_size=16,
)
