"""DINO, Swin-T, 100 epochs of ImageNet-1k.

Command: bash tools/dist_train.sh configs/dino/dino_swin-t_100e.py 16 --auto-scale-lr
No row of MST's or AttMask's tables; MST itself has 66.20 k-NN, 73.8 linear there. Not reproduced here.
"""

_base_ = [
    '../_base_/models/dino_swin-t.py',
    '../_base_/datasets/imagenet_multicrop.py',
    '../_base_/schedules/adamw_cosine_100e.py',
]
