"""Depth of the built-in scenes in space, sized for two CPU cores: what `make demo-transfer` runs.

Command: python tools/train.py configs/downstream/demo/depth_vit-nano_scenes.py --pretrained FILE
FILE is a checkpoint of configs/demo/mst_vit-nano_scenes.py. The scenes are written once: mstkit make-scenes
work_dirs/depth_scenes --depth --size 96. docs/en/results_transfer.md has what it reached.
"""

_base_ = '../mmseg/depth_vit-tiny_folder.py'

iterations = 300
data_root = 'work_dirs/depth_scenes'
crop_size = (96, 96)

model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        arch=dict(embed_dims=128, num_layers=4, num_heads=4, feedforward_channels=512),
        img_size=96,
    ),
    decode_head=dict(in_channels=128),
    test_cfg=dict(_delete_=True, mode='whole'),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mstkit.LoadDepth'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion', brightness_delta=25, contrast_range=(0.9, 1.1), saturation_range=(0.9, 1.1)),
    dict(type='PackSegInputs'),
]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='mstkit.LoadDepth'), dict(type='PackSegInputs')]
train_dataloader = dict(batch_size=16, num_workers=1, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader

param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=32),
    dict(type='PolyLR', eta_min=1e-6, power=0.9, begin=32, end=iterations, by_epoch=False),
]
train_cfg = dict(max_iters=iterations, val_interval=100)
default_hooks = dict(logger=dict(interval=25), checkpoint=dict(interval=100))
auto_scale_lr = dict(base_batch_size=16)
