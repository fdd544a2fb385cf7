"""ADIOS on your own folder of images, hundreds to tens of thousands of them, with or without classes.

Command: python tools/train.py configs/adios/adios_vit-tiny_folder.py --data-root DIR [--epochs N]
No row of a paper. configs/mst/mst_vit-tiny_folder.py says what DIR holds. Not reproduced here.
"""

_base_ = [
    '../_base_/models/adios_vit-tiny.py',
    '../_base_/datasets/folder_two_views.py',
    '../_base_/schedules/adamw_cosine_folder.py',
]

train_pipeline = [
    dict(type='LoadRGB'),
    dict(
        type='MultiCrop',
        global_crops=dict(size=64, scale=(0.2, 1.0)),
        local_crops=dict(count=0),
        global_recipes=dict(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2),
        blur_sigma=(0.1, 0.6),
    ),
    dict(type='PackViews'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
