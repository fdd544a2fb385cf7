"""AttMask-High in iBOT, ViT-S/16, 300 epochs of ImageNet-1k.

Command: bash tools/dist_train.sh configs/attmask/attmask-high_vit-s_300e.py 8 --auto-scale-lr
(8 processes x 100 images = AttMask's batch of 800)
Published with AttMask's code (Kakogeorgiou et al., ECCV 2022): k-NN 75.0, linear 77.5. Not reproduced here.
"""

_base_ = [
    '../_base_/models/ibot_vit-s.py',
    '../_base_/datasets/imagenet_multicrop.py',
    '../_base_/schedules/adamw_cosine_300e.py',
]

model = dict(masker=dict(_delete_=True, type='AttMaskHigh', ratio=(0.1, 0.5), image_prob=0.5))
train_pipeline = [
    dict(type='LoadRGB'),
    dict(
        type='MultiCrop',
        global_crops=dict(size=224, scale=(0.32, 1.0)),
        local_crops=dict(size=96, scale=(0.05, 0.32), count=10),
    ),
    dict(type='PackViews'),
]
train_dataloader = dict(batch_size=100, dataset=dict(pipeline=train_pipeline))
