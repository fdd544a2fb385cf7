# One view for masked image modeling: 224 px, crops from 20 % of the image, resized bicubically, flipped, nothing else
# (MAE, arXiv 2111.06377, appendix A.1).
_base_ = './imagenet_multicrop.py'

train_pipeline = [
    dict(type='LoadRGB'),
    dict(
        type='MultiCrop',
        global_crops=dict(size=224, scale=(0.2, 1.0), count=1),
        local_crops=dict(count=0),
        global_recipes=dict(jitter=0.0, gray=0.0, blur=0.0),
    ),
    dict(type='PackViews'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
