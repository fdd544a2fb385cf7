"""Keypoints of the built-in figures, sized for two CPU cores: what `make demo-transfer` runs.

Command: python tools/train.py configs/downstream/demo/keypoints_vit-nano_scenes.py --pretrained FILE
FILE is a checkpoint of configs/demo/mst_vit-nano_scenes.py. The scenes are written once: python tools/make_scenes.py
work_dirs/figures --figures. docs/en/results.md has what it reached.
"""

_base_ = '../keypoints/keypoints_vit-tiny_folder.py'

data_root = 'work_dirs/figures/'
size = (96, 96)

model = dict(
    backbone=dict(
        arch=dict(embed_dims=128, num_layers=4, num_heads=4, feedforward_channels=512),
        img_size=96,
    ),
    head=dict(in_channels=128, num_keypoints=13, channels=64),
)
train_pipeline = [
    dict(type='LoadRGB'),
    dict(type='CropInstance', size=size, scale=0.3, rotation=40.0, flip_prob=0.5),
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

optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=16, milestones=[12, 15], gamma=0.1),
]
train_cfg = dict(max_epochs=16, val_interval=4)
default_hooks = dict(logger=dict(interval=25))
