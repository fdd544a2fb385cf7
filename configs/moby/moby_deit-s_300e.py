"""MoBY, DeiT-S/16, 300 epochs of ImageNet-1k.

Command: bash tools/dist_train.sh configs/moby/moby_deit-s_300e.py 8 --auto-scale-lr
(8 processes x 64 images = MoBY's batch of 512; any other has to divide the queue of 4096)
Paper: MoBY (arXiv 2105.04553): linear 72.8. Not reproduced here.
"""

_base_ = [
    '../_base_/models/moby_deit-s.py',
    '../_base_/datasets/imagenet_two_views.py',
    '../_base_/schedules/moby_300e.py',
]
