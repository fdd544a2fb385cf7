# MaskFeat for small sets of small images: ViT-Tiny's width and half its depth at 64 px, a patch is one cell of the HOG.
data_preprocessor = dict(type='ViewDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])

model = dict(
    type='MaskFeat',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='MaskedVisionTransformer',
        arch=dict(embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768),
        img_size=64,
        patch_size=8,
    ),
    decoder=dict(type='LinearDecoder', init_std=0.02),
    target=dict(type='HOG'),
    masker=dict(type='BlockMasker', ratio=0.4, image_prob=1.0, min_block=5),
)
