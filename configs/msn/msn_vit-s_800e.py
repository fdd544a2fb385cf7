"""MSN, ViT-S/16, 800 epochs of ImageNet-1k.

Command: bash tools/dist_train.sh configs/msn/msn_vit-s_800e.py 16 --auto-scale-lr
(16 processes x 64 images = MSN's batch of 1024)
Paper: MSN (arXiv 2204.07141), whose abstract has ViT-B/4: 75.7 with 1 % of ImageNet's labels. Not reproduced here.
"""

_base_ = [
    '../_base_/models/msn_vit-s.py',
    '../_base_/datasets/imagenet_multicrop.py',
    '../_base_/schedules/msn_800e.py',
]

recipe = dict(saturation=0.4)  # the same for all views
train_pipeline = [
    dict(type='LoadRGB'),
    dict(
        type='MultiCrop',
        global_crops=dict(size=224, scale=(0.3, 1.0), count=2),  # the student's, then the target view
        local_crops=dict(size=96, scale=(0.05, 0.3), count=10),
        global_recipes=recipe,
        local_recipe=recipe,
        interpolation='bilinear',
    ),
    dict(type='PackViews'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
