"""ADIOS, ViT-S/16, 100 epochs of ImageNet-1k.

Command: bash tools/dist_train.sh configs/adios/adios_vit-s_100e.py 8 --auto-scale-lr
(--auto-scale-lr fits the lr to the batch of 8 processes)
Paper: ADIOS (arXiv 2201.13100) has no row of this one: it trains ResNet-18 and ViT-Tiny on STL-10 and ImageNet100-S
(100 classes, 96 px), by SGD with LARS at a batch of 128. Here it is 224 px and DINO's AdamW; views, temperature, masks,
and penalty are those of its SimCLR command for ViT-Tiny. Not reproduced here.
"""

_base_ = [
    '../_base_/models/adios_vit-s.py',
    '../_base_/datasets/imagenet_two_views.py',
    '../_base_/schedules/adamw_cosine_100e.py',
]

train_pipeline = [
    dict(type='LoadRGB'),
    dict(
        type='MultiCrop',
        global_crops=dict(size=224, scale=(0.08, 1.0)),
        local_crops=dict(count=0),
        global_recipes=dict(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2),
    ),
    dict(type='PackViews'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(freeze_last_layer_epochs=0)
