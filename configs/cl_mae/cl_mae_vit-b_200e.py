"""CL-MAE, ViT-B/16, 200 epochs of ImageNet-1k.

Command: bash tools/dist_train.sh configs/cl_mae/cl_mae_vit-b_200e.py 8 --auto-scale-lr
(lr 1e-3 is for a batch of 256; --auto-scale-lr fits it to any other)
Paper: CL-MAE (arXiv 2308.16572), optimizer, schedule and weights of the losses as in its code. Not reproduced here.
"""

_base_ = [
    '../_base_/models/cl_mae_vit-b.py',
    '../_base_/datasets/imagenet_one_view.py',
    '../_base_/schedules/cl_mae_200e.py',
]
