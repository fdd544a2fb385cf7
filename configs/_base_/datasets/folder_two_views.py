# Two views of an image of one's own at 64 px, for methods that compare just two: MoBY, MoCo v3, SimCLR, BYOL, SwAV.
_base_ = './folder_multicrop.py'

train_pipeline = [
    dict(type='LoadRGB'),
    dict(
        type='MultiCrop',
        global_crops=dict(size=64, scale=(0.2, 1.0)),
        local_crops=dict(count=0),
        blur_sigma=(0.1, 0.6),
    ),
    dict(type='PackViews'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
