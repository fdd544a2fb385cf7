# MaskFeat with ViT-B/16 (arXiv 2112.09133): blocks of four tenths of the patches hidden, their HOG predicted.
data_preprocessor = dict(type='ViewDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])

model = dict(
    type='MaskFeat',
    data_preprocessor=data_preprocessor,
    backbone=dict(type='MaskedVisionTransformer', arch='base', img_size=224, patch_size=16),
    decoder=dict(type='LinearDecoder', init_std=0.02),
    target=dict(type='HOG'),
    masker=dict(type='BlockMasker', ratio=0.4, image_prob=1.0, min_block=15),
)
