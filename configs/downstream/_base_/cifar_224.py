# CIFAR's pictures come as RGB arrays, so nothing is read; the rest is that of classify_224.py.
_base_ = './attmask_transfer.py'

train_pipeline = [
    dict(type='RandomResizedCrop', scale=224, backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(
        type='RandAugment',
        policies='timm_increasing',
        num_policies=2,
        total_level=10,
        magnitude_level=9,
        magnitude_std=0.5,
        hparams=dict(pad_val=[124, 116, 104], interpolation='bicubic'),
    ),
    dict(
        type='RandomErasing',
        erase_prob=0.25,
        mode='rand',
        min_area_ratio=0.02,
        max_area_ratio=1 / 3,
        fill_color=[124, 116, 104],
        fill_std=[58, 57, 57],
    ),
    dict(type='PackInputs'),
]
val_pipeline = [
    dict(type='ResizeEdge', scale=256, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    dataset=dict(_delete_=True, type='CIFAR10', data_root='data/cifar10', split='train', pipeline=train_pipeline)
)
val_dataloader = dict(
    dataset=dict(_delete_=True, type='CIFAR10', data_root='data/cifar10', split='test', pipeline=val_pipeline)
)
test_dataloader = val_dataloader

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-8, by_epoch=True, begin=5, end=500, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=500, val_interval=10)
