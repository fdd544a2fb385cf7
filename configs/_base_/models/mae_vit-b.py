# MAE with ViT-B/16 (arXiv 2111.06377): three quarters hidden, a decoder of 8 layers, pixels normalized per patch.
data_preprocessor = dict(type='ViewDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])

model = dict(
    type='MAE',
    data_preprocessor=data_preprocessor,
    backbone=dict(type='MaskedVisionTransformer', arch='base', img_size=224, patch_size=16),
    decoder=dict(type='ViTDecoder', embed_dims=512, num_layers=8, num_heads=16),
    masker=dict(type='RandomMasker', ratio=0.75, rounding='up'),
)
