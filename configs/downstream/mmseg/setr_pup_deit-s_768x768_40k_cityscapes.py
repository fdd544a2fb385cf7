"""SETR-PUP with DeiT-S on Cityscapes, 40,000 iterations: what MST's table 3 measures, as far as the paper says.

Command: python tools/train.py configs/downstream/mmseg/setr_pup_deit-s_768x768_40k_cityscapes.py \
    --pretrained FILE --data-root DIR
FILE is a DeiT-S checkpoint: configs/mst/mst_deit-s_100e.py or configs/dino/dino_vit-s_100e.py. Table 3, mIoU, mAcc,
aAcc: supervised 71.33, 80.30, 94.99; DINO 72.96, 81.32, 95.37; MST 74.04, 82.35, 95.42. The paper does not name
SETR's variant: this one is the nearest to MST's own decoder; naive and MLA are beside it. As in SETR's code, there are
four auxiliary heads, one of them on the last block too, each with one convolution; mmseg's port has three. The last
enlargement comes before the classifier, after it in SETR's code, which is the same function. Not reproduced here.
"""

_base_ = [
    '../_base_/setr_deit-s.py',
    '../_base_/cityscapes_768.py',
    '../_base_/sgd_40k.py',
    '../_base_/mmseg_runtime.py',
]

auxiliary = dict(
    type='SETRUPHead',
    in_channels=384,
    channels=256,
    num_classes=19,
    dropout_ratio=0,
    norm_cfg=dict(type='BN'),
    num_convs=1,
    up_scale=4,
    kernel_size=3,
    align_corners=False,
    loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4),
)
model = dict(
    backbone=dict(out_indices=(4, 7, 9, 11)),
    decode_head=dict(
        auxiliary,
        in_index=3,
        num_convs=4,
        up_scale=2,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    auxiliary_head=[dict(auxiliary, in_index=index) for index in range(4)],
)
