"""SimMIM, Swin-B at 192 px, 100 epochs of ImageNet-1k.

Command: bash tools/dist_train.sh configs/simmim/simmim_swin-b_100e.py 8 --auto-scale-lr
(SimMIM's batch is 2048, for example 32 processes x 64 images; --auto-scale-lr fits the lr to any other)
Paper: SimMIM (arXiv 2111.09886), fine-tuned 82.8 at 192 px, 83.5 at 224 px. Not reproduced here.
"""

_base_ = [
    '../_base_/models/simmim_swin-b.py',
    '../_base_/datasets/imagenet_one_view.py',
    '../_base_/schedules/simmim_100e.py',
]

train_pipeline = [
    dict(type='LoadRGB'),
    dict(
        type='MultiCrop',
        global_crops=dict(size=192, scale=(0.67, 1.0), count=1),
        local_crops=dict(count=0),
        global_recipes=dict(jitter=0.0, gray=0.0, blur=0.0),
        interpolation='bilinear',
    ),
    dict(type='PackViews'),
]
val_pipeline = [
    dict(type='LoadRGB'),
    dict(type='CenterView', resize=219, crop=192),
    dict(type='PackViews'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
default_hooks = dict(knn=dict(train_dataset=dict(pipeline=val_pipeline), val_dataset=dict(pipeline=val_pipeline)))
