"""SimMIM, ViT-B/16, 800 epochs of ImageNet-1k.

Command: bash tools/dist_train.sh configs/simmim/simmim_vit-b_800e.py 8 --auto-scale-lr
(SimMIM's batch is 2048, for example 32 processes x 64 images; --auto-scale-lr fits the lr to any other)
Paper: SimMIM (arXiv 2111.09886), fine-tuned 83.8; that is configs/downstream/mmpretrain/simmim_vit-b_100e_imagenet.py.
Not reproduced here.
"""

_base_ = [
    '../_base_/models/simmim_vit-b.py',
    '../_base_/datasets/imagenet_one_view.py',
    '../_base_/schedules/simmim_vit_800e.py',
]

train_pipeline = [
    dict(type='LoadRGB'),
    dict(
        type='MultiCrop',
        global_crops=dict(size=224, scale=(0.67, 1.0), count=1),
        local_crops=dict(count=0),
        global_recipes=dict(jitter=0.0, gray=0.0, blur=0.0),
        interpolation='bilinear',
    ),
    dict(type='PackViews'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
