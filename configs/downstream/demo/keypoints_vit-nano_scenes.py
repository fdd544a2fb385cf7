"""Keypoints of the built-in figures, sized for two CPU cores: what `make demo-transfer` runs.

Command: python tools/train.py configs/downstream/demo/keypoints_vit-nano_scenes.py --pretrained FILE
FILE is a checkpoint of configs/demo/mst_vit-nano_scenes.py. The scenes are written once: python tools/make_scenes.py
work_dirs/figures --figures. docs/en/results_transfer.md has what it reached.
"""

_base_ = '../keypoints/keypoints_vit-tiny_folder.py'

data_root = 'work_dirs/figures/'
size = (64, 64)

model = dict(
    backbone=dict(
        arch=dict(embed_dims=128, num_layers=4, num_heads=4, feedforward_channels=512),
        img_size=64,
    ),
    head=dict(in_channels=128, num_keypoints=13, channels=64),
)
train_pipeline = [
    dict(type='LoadRGB'),
    dict(type='CropInstance', size=size, scale=0.2, rotation=20.0, flip_prob=0.5),
    dict(type='PackKeypoints'),
]
test_pipeline = [
    dict(type='LoadRGB'),
    dict(type='CropInstance', size=size),
    dict(type='PackKeypoints'),
]
train_dataloader = dict(num_workers=1, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(thresholds=(0.1, 0.2))
test_evaluator = val_evaluator

optim_wrapper = dict(optimizer=dict(lr=2e-3), paramwise_cfg=dict(layer_decay_rate=0.9))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=24, milestones=[18, 22], gamma=0.1),
]
train_cfg = dict(max_epochs=24, val_interval=6)
default_hooks = dict(logger=dict(interval=25))
