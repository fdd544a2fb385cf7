"""SimMIM on your own folder of images, hundreds to tens of thousands of them, with or without classes.

Command: python tools/train.py configs/simmim/simmim_vit-tiny_folder.py --data-root DIR [--epochs N]
k-NN says little of SimMIM's features, which want fine-tuning. No row of a paper: pixels normalized per patch and
fixed positions, as MAE has both, learn more in few epochs (docs/en/results_recipes.md, chosen on other images).
configs/mst/mst_vit-tiny_folder.py says what DIR holds. Not reproduced here.
"""

_base_ = [
    '../_base_/models/simmim_vit-tiny.py',
    '../_base_/datasets/folder_one_view.py',
    '../_base_/schedules/mim_muon_folder.py',
]

model = dict(backbone=dict(positions='sincos'), target=dict(type='Pixels', norm=True))

train_pipeline = [
    dict(type='LoadRGB'),
    dict(
        type='MultiCrop',
        global_crops=dict(size=64, scale=(0.67, 1.0), count=1),
        local_crops=dict(count=0),
        global_recipes=dict(jitter=0.0, gray=0.0, blur=0.0),
    ),
    dict(type='PackViews'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
