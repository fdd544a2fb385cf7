"""SETR-PUP on your own images and label maps, from a small ViT: hundreds of images, a small machine.

Command: python tools/train.py configs/downstream/mmseg/setr_pup_vit-tiny_folder.py \
    --pretrained FILE --data-root DIR --num-classes N
FILE is a checkpoint of a *_vit-tiny_folder.py, such as configs/mst/mst_vit-tiny_folder.py. DIR has images/{train,val}
and labels/{train,val}, PNG files with ids from 0, and 255 for what does not count.
docs/en/results_transfer.md has what it reached.
"""

_base_ = ['../_base_/setr_deit-s.py', '../_base_/mmseg_runtime.py']

iterations = 2000
data_root = 'data/images'
crop_size = (224, 224)

auxiliary = dict(
    type='SETRUPHead',
    in_channels=192,
    channels=64,
    num_classes=19,
    dropout_ratio=0,
    norm_cfg=dict(type='BN'),
    num_convs=1,
    up_scale=2,
    kernel_size=3,
    align_corners=False,
    loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4),
)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        _delete_=True,
        type='mstkit.MaskedVisionTransformer',
        arch=dict(embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768),
        img_size=224,
        patch_size=8,
        out_type='featmap',
        out_indices=(2, 3, 5),
        final_norm=False,
        interpolate_mode='bilinear',
    ),
    decode_head=dict(
        auxiliary,
        in_index=2,
        num_convs=2,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    auxiliary_head=[dict(auxiliary, in_index=index) for index in (0, 1)],
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(160, 160)),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='mstkit.CheckLabels'),
    dict(type='RandomResize', scale=(480, 320), ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(480, 320), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='mstkit.LabelMapFolder',
        num_classes=19,
        data_root=data_root,
        data_prefix=dict(img_path='images/train', seg_map_path='labels/train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mstkit.LabelMapFolder',
        num_classes=19,
        data_root=data_root,
        data_prefix=dict(img_path='images/val', seg_map_path='labels/val'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator

# bf16 where the device has it, CPUs too.
optim_wrapper = dict(
    type='mstkit.DistillationOptimWrapper',
    optimizer=dict(type='AdamW', lr=3e-4, weight_decay=0.05, fused=True),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_norm=5.0,
    clip_mode='global',
    freeze_last_layer_epochs=0,
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=100, by_epoch=False),
    dict(type='PolyLR', eta_min=1e-6, power=0.9, begin=100, end=iterations, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations, val_interval=100)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(checkpoint=dict(interval=500))
auto_scale_lr = dict(enable=False, base_batch_size=8)
