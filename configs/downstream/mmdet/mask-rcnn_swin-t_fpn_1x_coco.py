"""Mask R-CNN with Swin-T on COCO, 1x, one scale: what MST's table 2 measures.

Command: bash tools/dist_train.sh configs/downstream/mmdet/mask-rcnn_swin-t_fpn_1x_coco.py 8 \
    --pretrained FILE --data-root DIR
FILE is a Swin-T checkpoint: configs/mst/mst_swin-t_100e.py, configs/dino/dino_swin-t_100e.py or
configs/moby/moby_swin-t_100e.py. Table 2, box and mask AP: supervised 300 epochs 43.7 and 39.8, supervised 100 epochs
41.6 and 38.4, MoBY 41.5 and 38.3, DINO 42.2 and 38.7, MST 42.7 and 38.8. The paper does not say whether it trained at
one scale or at several; the supervised row is that of several (mask-rcnn_swin-t_fpn_1x_coco_ms-480-800.py). This is
mmdet's 1x config for Swin-T: drop path 0.2, 1000 iterations of warm-up. Not reproduced here.
"""

_base_ = ['../_base_/mask-rcnn.py', '../_base_/coco.py', '../_base_/adamw_1x.py', '../_base_/mmdet_runtime.py']

model = dict(
    backbone=dict(
        type='mstkit.MaskedSwinTransformer',
        arch='tiny',
        img_size=224,
        drop_path_rate=0.2,
        out_indices=(0, 1, 2, 3),
    ),
    neck=dict(type='FPN', in_channels=[96, 192, 384, 768], out_channels=256, num_outs=5),
)
