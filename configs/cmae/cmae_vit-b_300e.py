"""CMAE, ViT-B/16, 300 epochs of ImageNet-1k.

Command: bash tools/dist_train.sh configs/cmae/cmae_vit-b_300e.py 8 --auto-scale-lr
(CMAE's batch is 4096, for example 64 processes x 64 images; --auto-scale-lr fits the lr to any other)
Paper: CMAE (arXiv 2207.13532), fine-tuned 83.8 (1600 epochs: 84.7). Not reproduced here.
"""

_base_ = [
    '../_base_/models/cmae_vit-b.py',
    '../_base_/datasets/imagenet_one_view.py',
    '../_base_/schedules/cmae_300e.py',
]

train_pipeline = [
    dict(type='LoadRGB'),
    dict(
        type='MultiCrop',
        global_crops=dict(size=224, scale=(0.2, 1.0), count=2),  # the student's, then the target view
        local_crops=dict(count=0),
        global_recipes=[dict(jitter=0.0, gray=0.0, blur=0.0), dict(saturation=0.4)],
        pixel_shift=31,
    ),
    dict(type='PackViews'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
