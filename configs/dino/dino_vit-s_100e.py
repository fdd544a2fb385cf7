"""DINO, ViT-S/16, 100 epochs of ImageNet-1k ("vanilla").

Command: bash tools/dist_train.sh configs/dino/dino_vit-s_100e.py 8 --auto-scale-lr
(8 processes x 64 images = DINO's batch of 512)
Published with DINO's code (arXiv 2104.14294): k-NN 69.3, linear on the last four class tokens 74.0. MST's table 6 has
72.4 for its own DINO-like baseline. Not reproduced here.
"""

_base_ = [
    '../_base_/models/dino_vit-s.py',
    '../_base_/datasets/imagenet_multicrop.py',
    '../_base_/schedules/adamw_cosine_100e.py',
]

model = dict(neck=dict(norm_last_layer=True))
