"""AttMask-Hint in iBOT, ViT-S/16, 100 epochs of a fifth of ImageNet-1k: the first 260 files of each class.

Command: bash tools/dist_train.sh configs/attmask/attmask-hint_vit-s_100e_20pct.py 4 --auto-scale-lr
Published with AttMask's code (Kakogeorgiou et al., ECCV 2022): k-NN 49.5, linear 57.5. Not reproduced here.
"""

_base_ = './attmask-hint_vit-s_100e.py'

model = dict(teacher=dict(momentum=0.99))
train_pipeline = [
    dict(type='LoadRGB'),
    dict(
        type='MultiCrop',
        global_crops=dict(size=224, scale=(0.25, 1.0)),
        local_crops=dict(size=96, scale=(0.05, 0.25), count=6),
    ),
    dict(type='PackViews'),
]
train_dataloader = dict(dataset=dict(max_per_class=260, pipeline=train_pipeline))
# The k-NN bank is the same fifth, as with `--subset 260` of AttMask's evaluation.
default_hooks = dict(knn=dict(train_dataset=dict(max_per_class=260)))
