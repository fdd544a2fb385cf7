"""Mask R-CNN on the built-in scenes, sized for two CPU cores: what `make demo-transfer` runs.

Command: python tools/train.py configs/downstream/demo/mask-rcnn_vit-nano_scenes.py --pretrained FILE
FILE is a checkpoint of configs/demo/mst_vit-nano_scenes.py. The scenes are written once: python tools/make_scenes.py
work_dirs/scenes. docs/en/results_transfer.md has what it reached.
"""

_base_ = '../mmdet/mask-rcnn_vit-tiny_sfp_folder.py'

data_root = 'work_dirs/scenes/'

model = dict(
    backbone=dict(
        arch=dict(embed_dims=128, num_layers=4, num_heads=4, feedforward_channels=512),
        img_size=48,
    ),
    neck=dict(in_channels=128),
    roi_head=dict(bbox_head=dict(num_classes=10), mask_head=dict(num_classes=10)),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale_factor=1.0),  # notes the scale, without which no mask is drawn
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(batch_size=8, num_workers=1, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(batch_size=8, num_workers=1, dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator

optim_wrapper = dict(optimizer=dict(lr=5e-4))
auto_scale_lr = dict(base_batch_size=8)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=50),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=8, milestones=[6], gamma=0.1),
]
train_cfg = dict(max_epochs=8, val_interval=4)
default_hooks = dict(logger=dict(interval=25))
