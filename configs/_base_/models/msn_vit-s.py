# MSN with ViT-S/16 (arXiv 2204.07141; configs/pretrain/msn_vits16.yaml of its code): 15 % of the patches dropped, 1,024
# prototypes, temperature 0.1, targets sharpened by 0.25 and balanced by Sinkhorn, mean-entropy maximization.
data_preprocessor = dict(
    type='ViewDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], non_blocking=True
)

model = dict(
    type='MSN',
    data_preprocessor=data_preprocessor,
    backbone=dict(type='MaskedVisionTransformer', arch='deit-small', img_size=224, patch_size=16),
    masker=dict(type='RandomMasker', ratio=0.15, rounding='up'),
    neck=dict(type='DINONeck', out_dim=1024, hidden_dim=2048, bottleneck_dim=256),
    teacher=dict(type='MomentumTeacher', momentum=0.996, end_momentum=1.0),
)
