# DINO on ViT-S/16 at 224 px (arXiv 2104.14294), as its published code trains it.
data_preprocessor = dict(
    type='ViewDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], non_blocking=True
)

model = dict(
    type='DINO',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='MaskedVisionTransformer',
        arch='deit-small',  # ViT-S/16; mmpretrain's 'small' is another network
        img_size=224,
        patch_size=16,
        drop_path_rate=0.1,  # the student's alone: the teacher's copy drops nothing
    ),
    neck=dict(type='DINONeck', out_dim=65536, hidden_dim=2048, bottleneck_dim=256),
    head=dict(type='DINOHead', student_temp=0.1, teacher_temp=0.04, center_momentum=0.9),
    teacher=dict(type='MomentumTeacher', momentum=0.996, end_momentum=1.0),
)
