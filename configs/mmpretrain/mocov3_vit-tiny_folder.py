"""mmpretrain's MoCoV3 (Chen et al., ICCV 2021) on your own folder of images, with our hooks.

Command: python tools/train.py configs/mmpretrain/mocov3_vit-tiny_folder.py --data-root DIR [--epochs N]
configs/mst/mst_vit-tiny_folder.py says what DIR holds. No row of a paper: nothing of one is reproduced here.
"""

_base_ = [
    '../_base_/models/mocov3_backbone_vit-tiny.py',
    '../_base_/datasets/folder_two_views.py',
    '../_base_/schedules/adamw_cosine_folder.py',
]

temperature = 0.2
mlp = dict(
    type='mmpretrain.NonLinearNeck',
    hid_channels=512,
    out_channels=128,
    with_bias=False,
    with_last_bn=True,
    with_last_bn_affine=False,
    with_last_bias=False,
    with_avg_pool=False,
)

model = dict(
    type='mmpretrain.MoCoV3',
    base_momentum=0.02,  # what of the student comes in: the momentum is 0.98 at first, as in the other small recipes
    neck=dict(mlp, in_channels=192, num_layers=3),
    head=dict(
        type='mmpretrain.MoCoV3Head',
        predictor=dict(mlp, in_channels=128, num_layers=2),
        loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=2 * temperature),
        temperature=temperature,
    ),
)
