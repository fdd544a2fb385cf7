"""mmpretrain's SimCLR (Chen et al., ICML 2020) on your own folder of images, with our hooks.

Command: python tools/train.py configs/mmpretrain/simclr_vit-tiny_folder.py --data-root DIR [--epochs N]
configs/mst/mst_vit-tiny_folder.py says what DIR holds. No row of a paper: nothing of one is reproduced here.
"""

_base_ = [
    '../_base_/models/mocov3_backbone_vit-tiny.py',
    '../_base_/datasets/folder_two_views.py',
    '../_base_/schedules/adamw_cosine_folder.py',
]

model = dict(
    type='mmpretrain.SimCLR',
    neck=dict(
        type='mmpretrain.NonLinearNeck',
        in_channels=192,
        hid_channels=512,
        out_channels=128,
        num_layers=2,
        with_avg_pool=False,
    ),
    head=dict(type='mmpretrain.ContrastiveHead', loss=dict(type='mmpretrain.CrossEntropyLoss'), temperature=0.1),
)
