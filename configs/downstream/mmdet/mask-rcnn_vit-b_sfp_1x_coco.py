"""Mask R-CNN with ViT-B and a simple feature pyramid on COCO, 1x: for checkpoints of masked image modeling.

Command: bash tools/dist_train.sh configs/downstream/mmdet/mask-rcnn_vit-b_sfp_1x_coco.py 8 \
    --pretrained FILE --data-root DIR
FILE is a ViT-B/16 checkpoint with absolute positions, such as that of configs/mae/mae_vit-b_800e.py. ViTDet (arXiv
2203.16527), whose pyramid it is, trains 100 epochs at 1024 px with windows in most blocks, so this is no row of that
paper. Not reproduced here.
"""

_base_ = './mask-rcnn_vit-s_sfp_1x_coco.py'

model = dict(backbone=dict(arch='base'), neck=dict(in_channels=768))
