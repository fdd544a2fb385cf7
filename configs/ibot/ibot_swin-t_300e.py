"""iBOT, Swin-T with 7x7 windows, 300 epochs of ImageNet-1k, block masks from epoch 50 on.

Command: bash tools/dist_train.sh configs/ibot/ibot_swin-t_300e.py 16 --auto-scale-lr
Published with iBOT's code (arXiv 2111.07832): k-NN 75.3, linear 78.6. Not reproduced here.
"""

_base_ = [
    '../_base_/models/ibot_swin-t.py',
    '../_base_/datasets/imagenet_multicrop10.py',
    '../_base_/schedules/adamw_cosine_300e.py',
]
