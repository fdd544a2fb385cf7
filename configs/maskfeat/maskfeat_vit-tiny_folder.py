"""MaskFeat on your own folder of images, hundreds to tens of thousands of them, with or without classes.

Command: python tools/train.py configs/maskfeat/maskfeat_vit-tiny_folder.py --data-root DIR [--epochs N]
k-NN says little of MaskFeat's features, which want a linear probe or fine-tuning. No row of a paper.
configs/mst/mst_vit-tiny_folder.py says what DIR holds. Not reproduced here.
"""

_base_ = [
    '../_base_/models/maskfeat_vit-tiny.py',
    '../_base_/datasets/folder_one_view.py',
    '../_base_/schedules/mim_folder.py',
]

train_pipeline = [
    dict(type='LoadRGB'),
    dict(
        type='MultiCrop',
        global_crops=dict(size=64, scale=(0.5, 1.0), count=1),
        local_crops=dict(count=0),
        global_recipes=dict(jitter=0.0, gray=0.0, blur=0.0),
    ),
    dict(type='PackViews'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
