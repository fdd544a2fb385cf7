"""CMAE on your own folder of images, hundreds to tens of thousands of them, with or without classes.

Command: python tools/train.py configs/cmae/cmae_vit-tiny_folder.py --data-root DIR [--epochs N]
No row of a paper. configs/mst/mst_vit-tiny_folder.py says what DIR holds. Not reproduced here.
"""

_base_ = [
    '../_base_/models/cmae_vit-tiny.py',
    '../_base_/datasets/folder_one_view.py',
    '../_base_/schedules/mim_folder.py',
]

train_pipeline = [
    dict(type='LoadRGB'),
    dict(
        type='MultiCrop',
        global_crops=dict(size=64, scale=(0.2, 1.0), count=2),
        local_crops=dict(count=0),
        global_recipes=[dict(jitter=0.0, gray=0.0, blur=0.0), dict(saturation=0.4)],
        blur_sigma=(0.1, 0.6),
        pixel_shift=9,  # the share of the view that 31 px are of 224
    ),
    dict(type='PackViews'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
