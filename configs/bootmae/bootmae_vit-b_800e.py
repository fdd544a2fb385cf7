"""BootMAE, ViT-B/16, 800 epochs of ImageNet-1k.

Command: bash tools/dist_train.sh configs/bootmae/bootmae_vit-b_800e.py 8 --auto-scale-lr
(BootMAE's batch is 4096, for example 64 processes x 64 images; --auto-scale-lr fits the lr to any other)
Paper: BootMAE (arXiv 2207.07116), fine-tuned 84.2, linear 66.1. Not reproduced here.
"""

_base_ = [
    '../_base_/models/bootmae_vit-b.py',
    '../_base_/datasets/imagenet_one_view.py',
    '../_base_/schedules/bootmae_800e.py',
]
