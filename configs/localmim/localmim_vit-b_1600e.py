"""LocalMIM with HOG, ViT-B/16, 1600 epochs of ImageNet-1k.

Command: bash tools/dist_train.sh configs/localmim/localmim_vit-b_1600e.py 8 --auto-scale-lr
(LocalMIM's batch is 2048, for example 32 processes x 64 images; --auto-scale-lr fits the lr to any other)
Published with LocalMIM's code (arXiv 2303.05251): fine-tuned 84.0. Not reproduced here.
"""

_base_ = [
    '../_base_/models/localmim_vit-b.py',
    '../_base_/datasets/imagenet_one_view.py',
    '../_base_/schedules/localmim_1600e.py',
]
