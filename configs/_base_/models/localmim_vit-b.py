# LocalMIM with ViT-B/16 (arXiv 2303.05251): three quarters hidden, HOG of cells of 4, 8, 16 and 32 px predicted from
# the second, fourth, tenth and twelfth block, each by a decoder of one layer.
data_preprocessor = dict(type='ViewDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])

model = dict(
    type='LocalMIM',
    data_preprocessor=data_preprocessor,
    backbone=dict(type='MaskedVisionTransformer', arch='base', img_size=224, patch_size=16),
    layers=(2, 4, -3, -1),
    scales=(4.0, 2.0, 1.0, 0.5),
    decoder=dict(type='ViTDecoder', embed_dims=256, num_layers=1, num_heads=8),
    target=dict(type='HOG', bins=9, cell_size=None, gaussian_window=0),
    masker=dict(type='RandomMasker', ratio=0.75, rounding='up'),
)
