"""iBOT, ViT-S/16, 800 epochs of ImageNet-1k, block masks.

Command: bash tools/dist_train.sh configs/ibot/ibot_vit-s_800e_block.py 16 --auto-scale-lr
(16 processes x 64 images = iBOT's batch of 1024)
Published with iBOT's code (arXiv 2111.07832): k-NN 75.2, linear 77.9. Not reproduced here.
"""

_base_ = [
    '../_base_/models/ibot_vit-s.py',
    '../_base_/datasets/imagenet_multicrop10.py',
    '../_base_/schedules/adamw_cosine_800e.py',
]
