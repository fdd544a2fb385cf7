"""MAE, ViT-S/16, 800 epochs of ImageNet-1k, otherwise as ViT-B, its decoder as well.

Command: bash tools/dist_train.sh configs/mae/mae_vit-s_800e.py 8 --auto-scale-lr
(MAE's batch is 4096, for example 64 processes x 64 images; --auto-scale-lr fits the lr to any other)
The paper has no such row. Not reproduced here.
"""

_base_ = './mae_vit-b_800e.py'

model = dict(backbone=dict(arch='deit-small'))
