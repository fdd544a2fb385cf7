# MST on DeiT-S/16 at 224 px (arXiv 2106.05656, sections 3 and 4.1). Where the paper is silent the values are this
# project's choice: docs/en/conventions.md lists them.
data_preprocessor = dict(
    type='SelfSupDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], non_blocking=True
)

model = dict(
    type='MSTAlgorithm',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='MaskedVisionTransformer',
        arch='deit-small',  # ViT-S/16; mmpretrain's 'small' is another network
        img_size=224,
        patch_size=16,
        drop_path_rate=0.1,  # the student's alone: the teacher's copy drops nothing
    ),
    neck=dict(
        type='DINONeck',
        out_dim=65536,
        hidden_dim=2048,
        bottleneck_dim=256,
        batch_norm='global_only',
    ),
    head=dict(type='DINOHead', student_temp=0.1, teacher_temp=0.04, centre_momentum=0.9),
    teacher=dict(type='MomentumTeacher', momentum=0.996, end_momentum=1.0),
    masker=dict(type='AttentionGuidedMasker', num=8, prob=0.10),
    decoder=dict(type='CNNImageDecoder', channels=256, batch_norm=True),
    loss_weight_ce=1.0,
    loss_weight_restore=0.6,
)
