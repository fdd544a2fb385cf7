# SimMIM with Swin-B at 192 px and windows of 6 (arXiv 2111.09886): squares of 32 px, six tenths of them hidden.
data_preprocessor = dict(type='ViewDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])

model = dict(
    type='SimMIM',
    data_preprocessor=data_preprocessor,
    backbone=dict(type='MaskedSwinTransformer', arch='base', img_size=192, window_size=6, drop_path_rate=0.0),
    decoder=dict(type='LinearDecoder'),
    masker=dict(type='RandomMasker', ratio=0.6, rounding='up'),
    mask_patch_size=32,
)
