# MoBY's two views (arXiv 2105.04553): 224 px, crops from 8 % of the image, resized bilinearly, colors as DINO's two
# global views.
_base_ = './imagenet_multicrop.py'

train_pipeline = [
    dict(type='LoadRGB'),
    dict(
        type='MultiCrop',
        global_crops=dict(size=224, scale=(0.08, 1.0)),
        local_crops=dict(count=0),
        global_recipes=[dict(blur=1.0, solarize=0.0), dict(blur=0.1, solarize=0.2)],
        interpolation='bilinear',
    ),
    dict(type='PackViews'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
