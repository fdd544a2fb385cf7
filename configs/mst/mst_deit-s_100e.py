"""MST, DeiT-S/16, 100 epochs of ImageNet-1k.

Command: bash tools/dist_train.sh configs/mst/mst_deit-s_100e.py 16 --auto-scale-lr
(16 processes x 64 images = the paper's batch of 1024; with --auto-scale-lr the learning rate fits any other)
Paper: MST (arXiv 2106.05656) table 9: k-NN 72.1, linear 73.9, linear on the last four class tokens 75.0.
Not reproduced here.
"""

_base_ = [
    '../_base_/models/mst_deit-s.py',
    '../_base_/datasets/imagenet_multicrop.py',
    '../_base_/schedules/adamw_cosine_100e.py',
]
