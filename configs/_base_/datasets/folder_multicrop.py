# A folder of the reader's own images at 64 px: DINO's views with their blur, which is made for 224 px, scaled.
# Brings the runtime along, whose hooks it adds to: two bases of one config may not share a key.
_base_ = '../default_runtime.py'

data_root = 'data/images'

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
