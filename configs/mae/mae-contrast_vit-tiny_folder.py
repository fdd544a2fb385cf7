"""MAE whose encoder also tells images apart, on your own folder of images: for minutes.

Command: python tools/train.py configs/mae/mae-contrast_vit-tiny_folder.py --data-root DIR [--epochs N]
CAN (Mishra et al., arXiv 2210.16870) without its noise. No row of a paper; docs/en/results_recipes.md has its search.
configs/mst/mst_vit-tiny_folder.py says what DIR holds. Not reproduced here.
"""

_base_ = [
    '../_base_/models/mae_vit-tiny.py',
    '../_base_/datasets/folder_small_crops.py',
    '../_base_/schedules/mim_muon_folder.py',
]

# Two views of an image in the weak colors of the small crops, each of which shows 25 of its 64 patches.
train_pipeline = [
    dict(type='LoadRGB'),
    dict(
        type='MultiCrop',
        global_crops=dict(size=64, scale=(0.2, 1.0), count=2),
        local_crops=dict(count=0),
        global_recipes={{_base_.recipe}},
    ),
    dict(type='PackViews'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

projection = dict(
    type='NonLinearNeck',
    hid_channels=512,
    out_channels=128,
    with_bias=True,
    with_last_bn=False,
    with_avg_pool=False,
    norm_cfg=dict(type='BN1d', eps=1e-6),
)
model = dict(
    global_views=2,
    masker=dict(ratio=0.6),
    objectives=dict(contrast=dict(type='ViewContrast', temperature=0.1, weight=0.1, neck=projection)),
)
