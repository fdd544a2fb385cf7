"""mmpretrain's SwAV (Caron et al., NeurIPS 2020) with DeiT-S, 300 epochs of ImageNet-1k: a row of MST's table 1.

Command: bash tools/dist_train.sh configs/mmpretrain/swav_deit-s_300e.py 8 --auto-scale-lr
(MoCo v3's batch is 4096, for example 64 processes x 64 images; --auto-scale-lr fits the lr to any other)
Paper: MST (arXiv 2106.05656), table 1, linear 67.1; not reproduced here.
SwAV has no recipe for ViTs: this is MoCo v3's, with two views and no queue.
"""

_base_ = [
    '../_base_/models/mocov3_backbone_deit-s.py',
    '../_base_/datasets/imagenet_two_views.py',
    '../_base_/schedules/mocov3_300e.py',
]

model = dict(
    type='mmpretrain.SwAV',
    backbone=dict(
        out_type='featmap'
    ),  # without pooling, SwAVNeck of mmpretrain 1.3 passes nothing on: so patches are averaged
    neck=dict(type='mmpretrain.SwAVNeck', in_channels=384, hid_channels=2048, out_channels=128, with_avg_pool=True),
    head=dict(
        type='mmpretrain.SwAVHead',
        loss=dict(
            type='mmpretrain.SwAVLoss',
            feat_dim=128,
            epsilon=0.05,
            temperature=0.1,
            num_prototypes=3000,
            num_crops=[2],
        ),
    ),
)

# The head holds its prototypes twice, which an optimizer refuses unless it is told to pass them over.
optim_wrapper = dict(paramwise_cfg=dict(bypass_duplicate=True))
