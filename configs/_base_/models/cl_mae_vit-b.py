# CL-MAE with ViT-B/16 (arXiv 2308.16572 and its code): MAE on plain pixels, masks by a network of 5 layers.
data_preprocessor = dict(type='ViewDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])

model = dict(
    type='CLMAE',
    data_preprocessor=data_preprocessor,
    backbone=dict(type='MaskedVisionTransformer', arch='base', img_size=224, patch_size=16),
    decoder=dict(type='ViTDecoder', embed_dims=512, num_layers=8, num_heads=16),
    network=dict(type='MaskingTransformer', num_layers=5, num_heads=4, mlp_ratio=4.0, lr_mult=1.0),
    masker=dict(type='AttMaskHigh', ratio=0.75, image_prob=1.0),
    guide='learned',
    norm_pix=False,
    factor=(1.0, -1.0),
    gauss_weight=1.0,
    kl_weight=0.1,
    diversity_weight=2.0,
)
