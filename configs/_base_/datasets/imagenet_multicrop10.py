# The crops of long schedules (iBOT, AttMask, DINO's own advice): ten local ones, and both kinds from smaller shares.
_base_ = './imagenet_multicrop.py'

train_pipeline = [
    dict(type='LoadRGB'),
    dict(
        type='MultiCrop',
        global_crops=dict(size=224, scale=(0.25, 1.0)),
        local_crops=dict(size=96, scale=(0.05, 0.25), count=10),
    ),
    dict(type='PackViews'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
