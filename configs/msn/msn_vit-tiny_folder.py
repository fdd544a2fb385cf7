"""MSN on your own folder of images, hundreds to tens of thousands of them, with or without classes.

Command: python tools/train.py configs/msn/msn_vit-tiny_folder.py --data-root DIR [--epochs N]
No row of a paper. configs/mst/mst_vit-tiny_folder.py says what DIR holds. Not reproduced here.
"""

_base_ = [
    '../_base_/models/msn_vit-tiny.py',
    '../_base_/datasets/folder_multicrop.py',
    '../_base_/schedules/adamw_cosine_folder.py',
]

recipe = dict(saturation=0.4)
train_pipeline = [
    dict(type='LoadRGB'),
    dict(
        type='MultiCrop',
        global_crops=dict(size=64, scale=(0.3, 1.0), count=2),
        local_crops=dict(size=32, scale=(0.1, 0.4), count=4),
        global_recipes=recipe,
        local_recipe=recipe,
        blur_sigma=(0.1, 0.6),
    ),
    dict(type='PackViews'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
