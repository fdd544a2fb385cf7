# ImageNet-1k in its usual layout (data/imagenet/{train,val}/CLASS/*.JPEG), DINO's multi-crop of two 224-px and eight
# 96-px views. Any folder of images does as well: tools/train.py CONFIG --data-root DIR.
# Brings the runtime along, whose hooks it adds to: two bases of one config may not share a key.
_base_ = '../default_runtime.py'

data_root = 'data/imagenet'

train_pipeline = [
    dict(type='LoadRGB'),
    dict(
        type='MultiCrop',
        global_crops=dict(size=224, scale=(0.4, 1.0)),
        local_crops=dict(size=96, scale=(0.05, 0.4), count=8),
    ),
    dict(type='PackViews'),
]
val_pipeline = [
    dict(type='LoadRGB'),
    dict(type='CenterView', resize=256, crop=224),
    dict(type='PackViews'),
]

train_dataloader = dict(
    batch_size=64,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
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
        interval=10,
        batch_size=256,
        num_workers=8,
    ),
    panels=dict(type='PanelHook', interval=10),
)
