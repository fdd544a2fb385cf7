"""Mask R-CNN with Swin-T on COCO, 1x, sides of 480 to 800 px: the recipe behind the supervised row of MST's table 2.

Command: bash tools/dist_train.sh configs/downstream/mmdet/mask-rcnn_swin-t_fpn_1x_coco_ms-480-800.py 8 \
    --pretrained FILE --data-root DIR
The augmentation, the drop path (0.1) and the warm-up (500 iterations) of the Swin paper's own detection code, which
reports box AP 43.7 and mask AP 39.8 from 300 epochs of supervision; MST's table 2 has MoBY 41.5 and 38.3, DINO 42.2
and 38.7, MST 42.7 and 38.8. Not reproduced here.
"""

_base_ = './mask-rcnn_swin-t_fpn_1x_coco.py'

model = dict(backbone=dict(drop_path_rate=0.1))

sides = [(side, 1333) for side in range(480, 801, 32)]
resize = dict(type='RandomChoiceResize', scales=sides, keep_ratio=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandomChoice',
        transforms=[
            [resize],
            [
                dict(type='RandomChoiceResize', scales=[(400, 1333), (500, 1333), (600, 1333)], keep_ratio=True),
                dict(type='RandomCrop', crop_type='absolute_range', crop_size=(384, 600), allow_negative_crop=True),
                resize,
            ],
        ],
    ),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=12, milestones=[8, 11], gamma=0.1),
]
