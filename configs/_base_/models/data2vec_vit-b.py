# data2vec with ViT-B/16 (arXiv 2202.03555): blocks of 120 of 196 patches hidden, there the mean of the upper half of
# the teacher's layers predicted, 6 of 12; BEiT's encoder with a LayerScale of 1e-4.
data_preprocessor = dict(type='ViewDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])

model = dict(
    type='Data2Vec',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='MaskedVisionTransformer',
        arch='base',
        img_size=224,
        patch_size=16,
        drop_path_rate=0.25,
        layer_cfgs=dict(attn_drop_rate=0.05),
        positions='none',
        relative_positions='shared',
        qkv_bias='qv_bias',
        layer_scale_init_value=1e-4,
        initialization='beit',
    ),
    decoder=dict(type='LinearDecoder', init_std=0.02),
    target=dict(type='TeacherLayers', norm='layer', norm_mean=True),
    beta=2.0,
    teacher=dict(type='MomentumTeacher', momentum=0.999, end_momentum=0.9998),
    masker=dict(type='BlockMasker', ratio=0.6125, image_prob=1.0, min_block=16),
)
