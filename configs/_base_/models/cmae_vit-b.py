# CMAE with ViT-B/16 (arXiv 2207.13532 and its code): MAE with 65 % hidden, in squares of 32 px as in its code; a
# feature decoder of 2 layers, projector and predictor of 1536/256, InfoNCE of temperature 0.07, a momentum of 0.996.
data_preprocessor = dict(type='ViewDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])

mlp = dict(hid_channels=1536, out_channels=256)
model = dict(
    type='CMAE',
    data_preprocessor=data_preprocessor,
    backbone=dict(type='MaskedVisionTransformer', arch='base', img_size=224, patch_size=16),
    decoder=dict(type='ViTDecoder', embed_dims=512, num_layers=8, num_heads=16),
    feature_decoder=dict(type='ViTDecoder', embed_dims=512, num_layers=2, num_heads=16),
    neck=dict(type='NonLinearNeck', **mlp),
    predictor=dict(type='NonLinearNeck', **mlp),
    masker=dict(type='RandomMasker', ratio=0.65, rounding='up'),
    mask_patch_size=32,
    teacher=dict(type='MomentumTeacher', momentum=0.996, end_momentum=0.996),
)
