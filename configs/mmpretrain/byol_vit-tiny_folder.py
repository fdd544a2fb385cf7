"""mmpretrain's BYOL (Grill et al., NeurIPS 2020) on your own folder of images, with our hooks.

Command: python tools/train.py configs/mmpretrain/byol_vit-tiny_folder.py --data-root DIR [--epochs N]
configs/mst/mst_vit-tiny_folder.py says what DIR holds. No row of a paper: nothing of one is reproduced here.
"""

_base_ = [
    '../_base_/models/mocov3_backbone_vit-tiny.py',
    '../_base_/datasets/folder_two_views.py',
    '../_base_/schedules/adamw_cosine_folder.py',
]

mlp = dict(
    type='mmpretrain.NonLinearNeck',
    hid_channels=512,
    out_channels=128,
    num_layers=2,
    with_bias=True,
    with_last_bn=False,
    with_avg_pool=False,
)

model = dict(
    type='mmpretrain.BYOL',
    base_momentum=0.02,  # what of the student comes in: the momentum is 0.98 at first, as in the other small recipes
    neck=dict(mlp, in_channels=192),
    head=dict(
        type='mmpretrain.LatentPredictHead',
        predictor=dict(mlp, in_channels=128),
        loss=dict(type='mmpretrain.CosineSimilarityLoss'),
    ),
)
