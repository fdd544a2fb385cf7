"""mmpretrain's BYOL (Grill et al., NeurIPS 2020) with DeiT-S, 300 epochs of ImageNet-1k: a row of MST's table 1.

Command: bash tools/dist_train.sh configs/mmpretrain/byol_deit-s_300e.py 8 --auto-scale-lr
(MoCo v3's batch is 4096, for example 64 processes x 64 images; --auto-scale-lr fits the lr to any other)
Paper: MST (arXiv 2106.05656), table 1, linear 71.0; not reproduced here.
BYOL has no recipe for ViTs: this is MoCo v3's.
"""

_base_ = [
    '../_base_/models/mocov3_backbone_deit-s.py',
    '../_base_/datasets/imagenet_two_views.py',
    '../_base_/schedules/mocov3_300e.py',
]

mlp = dict(
    type='mmpretrain.NonLinearNeck',
    hid_channels=4096,
    out_channels=256,
    num_layers=2,
    with_bias=True,
    with_last_bn=False,
    with_avg_pool=False,
)

model = dict(
    type='mmpretrain.BYOL',
    base_momentum=0.01,  # what of the student comes in: the momentum is 0.99 at first
    neck=dict(mlp, in_channels=384),
    head=dict(
        type='mmpretrain.LatentPredictHead',
        predictor=dict(mlp, in_channels=256),
        loss=dict(type='mmpretrain.CosineSimilarityLoss'),
    ),
)
