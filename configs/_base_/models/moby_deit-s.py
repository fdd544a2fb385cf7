# MoBY on DeiT-S/16 at 224 px (arXiv 2105.04553), as its published code trains it.
data_preprocessor = dict(
    type='ViewDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], non_blocking=True
)

# Linear, batch norm, ReLU, linear; the runner synchronizes the batch norm over GPUs.
mlp = dict(
    type='NonLinearNeck',
    hid_channels=4096,
    out_channels=256,
    with_bias=True,
    with_last_bias=True,
    with_last_bn=False,
    with_avg_pool=False,
    norm_cfg=dict(type='BN1d'),
)
model = dict(
    type='MoBY',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='MaskedVisionTransformer',
        arch='deit-small',  # ViT-S/16; mmpretrain's 'small' is another network
        img_size=224,
        patch_size=16,
        drop_path_rate=0.2,  # the student's alone: the teacher's copy drops nothing
    ),
    neck=mlp,
    predictor=mlp,
    head=dict(type='MoBYHead', queue_size=4096, temperature=0.2),
    teacher=dict(type='MomentumTeacher', momentum=0.99, end_momentum=1.0),
)
