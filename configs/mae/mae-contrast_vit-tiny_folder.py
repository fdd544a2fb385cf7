"""MAE whose encoder also tells images apart, on your own folder of images: what learns most in minutes.

Command: python tools/train.py configs/mae/mae-contrast_vit-tiny_folder.py --data-root DIR [--epochs N]
CAN (Mishra et al., arXiv 2210.16870) without its noise. No row of a paper; docs/en/results.md has its search.
configs/mst/mst_vit-tiny_folder.py says what DIR holds. Not reproduced here.
"""

_base_ = './mae_vit-tiny_folder.py'

# Two views of an image, each of which shows 25 of its 64 patches. The weak colors of folder_small_crops.py.
recipe = dict(brightness=0.3, contrast=0.3, saturation=0.1, hue=0.03, gray=0.05, blur=0.0)
train_pipeline = [
    dict(type='LoadRGB'),
    dict(
        type='MultiCrop',
        global_crops=dict(size=64, scale=(0.2, 1.0), count=2),
        local_crops=dict(count=0),
        global_recipes=recipe,
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
