"""mmpretrain's SimCLR (Chen et al., ICML 2020) with DeiT-S, 300 epochs of ImageNet-1k: a row of MST's table 1.

Command: bash tools/dist_train.sh configs/mmpretrain/simclr_deit-s_300e.py 8 --auto-scale-lr
(MoCo v3's batch is 4096, for example 64 processes x 64 images; --auto-scale-lr fits the lr to any other)
Paper: MST (arXiv 2106.05656), table 1, linear 69.0; not reproduced here.
SimCLR has no recipe for ViTs: this is MoCo v3's.
"""

_base_ = [
    '../_base_/models/mocov3_backbone_deit-s.py',
    '../_base_/datasets/imagenet_two_views.py',
    '../_base_/schedules/mocov3_300e.py',
]

model = dict(
    type='mmpretrain.SimCLR',
    neck=dict(
        type='mmpretrain.NonLinearNeck',
        in_channels=384,
        hid_channels=4096,
        out_channels=128,
        num_layers=2,
        with_avg_pool=False,
    ),
    head=dict(type='mmpretrain.ContrastiveHead', loss=dict(type='mmpretrain.CrossEntropyLoss'), temperature=0.1),
)
