"""MST on your own folder of pictures, hundreds to tens of thousands of them, with or without classes.

Command: python tools/train.py configs/mst/mst_vit-tiny_folder.py --data-root DIR [--epochs N]
DIR holds pictures in any depth, or train/ and val/ with a folder per class: then k-NN accuracy is measured on the way.
A network of ViT-Tiny's width and half its depth at 64 px. No row of a paper; docs/en/results.md has what it reached.
"""

_base_ = '../_base_/default_runtime.py'

data_root = 'data/pictures'
epochs = 100

data_preprocessor = dict(type='SelfSupDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])

model = dict(
    type='MSTAlgorithm',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='MaskedVisionTransformer',
        arch=dict(embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768),
        img_size=64,
        patch_size=8,
    ),
    # What a small set needs: few prototypes, and a teacher that follows within tens of steps, because a run has
    # thousands of them and not hundreds of thousands. With MST's batch normalisation features come sooner.
    neck=dict(type='DINONeck', out_dim=512, hidden_dim=512, bottleneck_dim=128, batch_norm='global_only'),
    head=dict(type='DINOHead', teacher_temp=0.03),
    teacher=dict(type='MomentumTeacher', momentum=0.98),
    masker=dict(type='AttentionGuidedMasker', num=8, prob=0.10),
    decoder=dict(type='CNNImageDecoder', channels=16),
)

# DINO's recipe with its blur, which is made for 224 px, scaled to 64.
train_pipeline = [
    dict(type='LoadRGB'),
    dict(
        type='MultiCrop',
        global_crops=dict(size=64, scale=(0.4, 1.0)),
        local_crops=dict(size=32, scale=(0.1, 0.5), count=2),
        blur_sigma=(0.1, 0.6),
    ),
    dict(type='PackViews'),
]
val_pipeline = [
    dict(type='LoadRGB'),
    dict(type='CenterView', resize=73, crop=64),
    dict(type='PackViews'),
]

train_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='ImageFolder', data_root=data_root, split='train', pipeline=train_pipeline),
)

optim_wrapper = dict(
    type='DistillationOptimWrapper',
    constructor='TrainableOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.04),
    clip_norm=3.0,
    freeze_last_layer_epochs=0,  # an epoch may be ten steps or a thousand; the warm-up protects the start
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0),
)
auto_scale_lr = dict(base_batch_size=32, enable=False)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=True, begin=0, end=3, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=3, end=epochs, convert_to_iter_based=True),
]
train_cfg = dict(type='ResumableEpochLoop', max_epochs=epochs)

default_hooks = dict(
    knn=dict(
        type='KNNHook',
        train_dataset=dict(type='ImageFolder', data_root=data_root, split='train', pipeline=val_pipeline),
        val_dataset=dict(type='ImageFolder', data_root=data_root, split='val', pipeline=val_pipeline),
        interval=5,
        batch_size=256,
        num_workers=2,
    ),
    panels=dict(type='PanelHook', interval=5),
)
