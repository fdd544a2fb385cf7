"""Mask R-CNN with ViT-S and a simple feature pyramid on COCO, 1x: no row of MST's tables, for ViT checkpoints.

Command: bash tools/dist_train.sh configs/downstream/mmdet/mask-rcnn_vit-s_sfp_1x_coco.py 8 \
    --pretrained FILE --data-root DIR
FILE is a ViT-S checkpoint, such as that of configs/attmask/attmask-high_vit-s_100e.py. The pyramid is ViTDet's (arXiv
2203.16527); attention is global in every block. Not reproduced here.
"""

_base_ = ['../_base_/mask-rcnn.py', '../_base_/coco.py', '../_base_/adamw_1x.py', '../_base_/mmdet_runtime.py']

model = dict(
    backbone=dict(
        type='mstkit.MaskedVisionTransformer',
        arch='deit-small',
        img_size=224,
        patch_size=16,
        out_type='featmap',
        drop_path_rate=0.1,
    ),
    neck=dict(type='mstkit.SimpleFPN', in_channels=384, out_channels=256, num_outs=5),
)
