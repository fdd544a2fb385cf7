"""SETR-naive with DeiT-S on Cityscapes, 40,000 iterations: the smallest head that MST's table 3 may have used.

Command: python tools/train.py configs/downstream/mmseg/setr_naive_deit-s_768x768_40k_cityscapes.py \
    --pretrained FILE --data-root DIR
Table 3, mIoU: supervised 71.33, DINO 72.96, MST 74.04, for a variant that the paper does not name. As in SETR's code,
the logits are made on the grid of the patches and enlarged in one step; mmseg's port enlarges the features four times
before. Not reproduced here.
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
    up_scale=1,  # of the features: none
    kernel_size=1,
    align_corners=False,
    loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4),
)
model = dict(
    backbone=dict(out_indices=(2, 5, 8, 11)),
    decode_head=dict(
        auxiliary,
        in_index=3,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    auxiliary_head=[dict(auxiliary, in_index=index) for index in (0, 1, 2)],
)
