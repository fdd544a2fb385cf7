"""SETR-PUP on the built-in scenes, sized for two CPU cores: what `make demo-transfer` runs.

Command: python tools/train.py configs/downstream/demo/setr_vit-nano_scenes.py --pretrained FILE
FILE is a checkpoint of configs/demo/mst_vit-nano_scenes.py. The scenes are written once: python tools/make_scenes.py
work_dirs/scenes. docs/en/results_transfer.md has what it reached.
"""

_base_ = '../mmseg/setr_pup_vit-tiny_folder.py'

iterations = 500
data_root = 'work_dirs/scenes/'
crop_size = (96, 96)

auxiliary = dict(
    type='SETRUPHead',
    in_channels=128,
    channels=64,
    num_classes=11,
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
        arch=dict(embed_dims=128, num_layers=4, num_heads=4, feedforward_channels=512),
        img_size=96,
        out_indices=(1, 2, 3),
    ),
    decode_head=dict(in_channels=128, num_classes=11),
    auxiliary_head=[dict(auxiliary, in_index=index) for index in (0, 1)],
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(32, 32)),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='mstkit.CheckLabels'),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.9),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
classes = (
    'background',
    'ring',
    'disc',
    'triangle',
    'square',
    'cross',
    'star',
    'heart',
    'crescent',
    'hourglass',
    'leaf',
)
scenes = dict(
    num_classes=11,
    metainfo=dict(classes=classes),
    data_root=data_root,
    seg_map_suffix='_gtFine_labelTrainIds.png',
)
train_dataloader = dict(
    num_workers=1,
    dataset=dict(
        scenes,
        data_prefix=dict(img_path='train2017', seg_map_path='gtFine/train/scenes'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        scenes,
        data_prefix=dict(img_path='val2017', seg_map_path='gtFine/val/scenes'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=50, by_epoch=False),
    dict(type='PolyLR', eta_min=1e-6, power=0.9, begin=50, end=iterations, by_epoch=False),
]
train_cfg = dict(max_iters=iterations, val_interval=250)
default_hooks = dict(logger=dict(interval=25), checkpoint=dict(interval=250))
