"""MAE, ViT-B/16, 800 epochs of ImageNet-1k.

Command: bash tools/dist_train.sh configs/mae/mae_vit-b_800e.py 8 --auto-scale-lr
(MAE's batch is 4096, for example 64 processes x 64 images; --auto-scale-lr fits the lr to any other)
Paper: MAE (arXiv 2111.06377), fine-tuned 83.6 after 1600 epochs; mmpretrain's run of 800: fine-tuned 83.3, linear 65.1.
Not reproduced here.
"""

_base_ = [
    '../_base_/models/mae_vit-b.py',
    '../_base_/datasets/imagenet_one_view.py',
    '../_base_/schedules/mae_800e.py',
]
