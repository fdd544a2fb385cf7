"""mmpretrain's MoCoV3 (Chen et al., ICCV 2021) with DeiT-S, 300 epochs of ImageNet-1k: a row of MST's table 1.

Command: bash tools/dist_train.sh configs/mmpretrain/mocov3_deit-s_300e.py 8 --auto-scale-lr
(MoCo v3's batch is 4096, for example 64 processes x 64 images; --auto-scale-lr fits the lr to any other)
Paper: MST (arXiv 2106.05656), table 1, linear 72.5; not reproduced here.
"""

_base_ = [
    '../_base_/models/mocov3_backbone_deit-s.py',
    '../_base_/datasets/imagenet_two_views.py',
    '../_base_/schedules/mocov3_300e.py',
]

temperature = 0.2
mlp = dict(
    type='mmpretrain.NonLinearNeck',
    hid_channels=4096,
    out_channels=256,
    with_bias=False,
    with_last_bn=True,
    with_last_bn_affine=False,
    with_last_bias=False,
    with_avg_pool=False,
)

model = dict(
    type='mmpretrain.MoCoV3',
    base_momentum=0.01,  # what of the student comes in: the momentum is 0.99 at first
    neck=dict(mlp, in_channels=384, num_layers=3),
    head=dict(
        type='mmpretrain.MoCoV3Head',
        predictor=dict(mlp, in_channels=256, num_layers=2),
        loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=2 * temperature),
        temperature=temperature,
    ),
)
