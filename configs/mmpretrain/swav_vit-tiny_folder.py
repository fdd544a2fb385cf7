"""mmpretrain's SwAV (Caron et al., NeurIPS 2020) on your own folder of images, with our hooks.

Command: python tools/train.py configs/mmpretrain/swav_vit-tiny_folder.py --data-root DIR [--epochs N]
Two views at 64 px and two at 32 px; no queue, which SwAV adds where a batch has fewer images than prototypes.
configs/mst/mst_vit-tiny_folder.py says what DIR holds. No row of a paper: nothing of one is reproduced here.
"""

_base_ = [
    '../_base_/models/mocov3_backbone_vit-tiny.py',
    '../_base_/datasets/folder_multicrop.py',
    '../_base_/schedules/adamw_cosine_folder.py',
]

model = dict(
    type='mmpretrain.SwAV',
    backbone=dict(
        out_type='featmap'
    ),  # without pooling, SwAVNeck of mmpretrain 1.3 passes nothing on: so patches are averaged
    neck=dict(type='mmpretrain.SwAVNeck', in_channels=192, hid_channels=512, out_channels=128, with_avg_pool=True),
    head=dict(
        type='mmpretrain.SwAVHead',
        loss=dict(
            type='mmpretrain.SwAVLoss',
            feat_dim=128,
            epsilon=0.05,
            temperature=0.1,
            num_prototypes=24,  # fewer than the 32 images of a batch, for there is no queue
            num_crops=[2, 2],
        ),
    ),
)

# The head holds its prototypes twice, which an optimizer refuses unless it is told to pass them over.
optim_wrapper = dict(paramwise_cfg=dict(bypass_duplicate=True))
