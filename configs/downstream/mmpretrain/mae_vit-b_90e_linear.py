"""Linear probe of MAE's ViT-B on ImageNet, as in MAE's code: LARS for 90 epochs on the frozen class token.

Command: bash tools/dist_train.sh configs/downstream/mmpretrain/mae_vit-b_90e_linear.py 8 \
    --pretrained FILE --data-root DIR --auto-scale-lr
(MAE's batch is 16384, for example 32 processes x 512 images; --auto-scale-lr fits the lr to any other)
FILE is a checkpoint of configs/mae/mae_vit-b_800e.py, or MAE's own. Its appendix A.1: 0.1 per 256 images, which is 6.4,
no weight decay, 10 epochs of warm-up, crops and flips alone, and before the classifier a batch normalization without
parameters. Paper: MAE (arXiv 2111.06377), 68.0 after 1600 epochs of pre-training; mmpretrain's run of 800: 65.1. Not
reproduced here; without LARS, tools/evaluation/evaluate.py probes any checkpoint on cached features.
"""

_base_ = ['../_base_/classify_224.py', '../_base_/mmpretrain_runtime.py']

model = dict(
    backbone=dict(type='mstkit.MaskedVisionTransformer', arch='base', img_size=224, patch_size=16, frozen_stages=12),
    neck=dict(type='mmpretrain.ClsBatchNormNeck', input_features=768, affine=False, eps=1e-6),
    head=dict(
        in_channels=768,
        loss=dict(_delete_=True, type='CrossEntropyLoss'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.01),
    ),
    train_cfg=None,
)
train_pipeline = [
    dict(type='mstkit.LoadRGB'),
    dict(type='RandomResizedCrop', scale=224, backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
train_dataloader = dict(batch_size=512, dataset=dict(pipeline=train_pipeline))

# As in MAE's code, LARS fits the rate of matrices alone.
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='mmpretrain.LARS', lr=6.4, momentum=0.9, weight_decay=0.0),
    constructor='TrainableOptimWrapperConstructor',
    paramwise_cfg=dict(custom_keys=dict(bias=dict(lars_exclude=True))),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=True, begin=10, end=90, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=90)
auto_scale_lr = dict(base_batch_size=16384)
