"""MST, Swin-T, 100 epochs of ImageNet-1k.

Command: bash tools/dist_train.sh configs/mst/mst_swin-t_100e.py 16 --auto-scale-lr
Paper: MST (arXiv 2106.05656) table 1: k-NN 66.20, linear 73.8. Not reproduced here.
"""

_base_ = [
    '../_base_/models/mst_swin-t.py',
    '../_base_/datasets/imagenet_multicrop.py',
    '../_base_/schedules/adamw_cosine_100e.py',
]
