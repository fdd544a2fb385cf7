"""MoBY on your own folder of pictures, hundreds to tens of thousands of them, with or without classes.

Command: python tools/train.py configs/moby/moby_vit-tiny_folder.py --data-root DIR [--epochs N]
The batch size has to divide model.head.queue_size. From thousands of pictures on, a longer queue is worth a try.
No row of a paper. configs/mst/mst_vit-tiny_folder.py says what DIR holds. Not reproduced here.
"""

_base_ = [
    '../_base_/models/moby_vit-tiny.py',
    '../_base_/datasets/folder_multicrop.py',
    '../_base_/schedules/adamw_cosine_folder.py',
]

# Two views and no local ones.
train_pipeline = [
    dict(type='LoadRGB'),
    dict(
        type='MultiCrop',
        global_crops=dict(size=64, scale=(0.2, 1.0)),
        local_crops=dict(count=0),
        blur_sigma=(0.1, 0.6),
    ),
    dict(type='PackViews'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(clip_norm=5.0, clip_mode='global')
