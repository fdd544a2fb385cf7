# DINO for small sets of small images: ViT-Tiny's width and half its depth at 64 px. Few prototypes, batch
# normalization in the projection head, features that are kept apart (KoLeo), and a teacher that follows within a
# hundred steps, because a run has thousands of them and not hundreds of thousands.
data_preprocessor = dict(type='ViewDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])

model = dict(
    type='DINO',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='MaskedVisionTransformer',
        arch=dict(embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768),
        img_size=64,
        patch_size=8,
    ),
    neck=dict(type='DINONeck', out_dim=1024, hidden_dim=512, bottleneck_dim=128, batch_norm='global_only'),
    head=dict(type='DINOHead', teacher_temp=0.04),
    teacher=dict(type='MomentumTeacher', momentum=0.99),
    objectives=dict(koleo=dict(type='KoLeo', weight=0.1)),
)
