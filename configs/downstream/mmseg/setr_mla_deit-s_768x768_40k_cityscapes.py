"""SETR-MLA with DeiT-S on Cityscapes, 40,000 iterations: features of four depths, class token kept in the encoder.

Command: python tools/train.py configs/downstream/mmseg/setr_mla_deit-s_768x768_40k_cityscapes.py \
    --pretrained FILE --data-root DIR
Table 3, mIoU: supervised 71.33, DINO 72.96, MST 74.04, for a variant that the paper does not name. The classifier is
the 3x3 convolution of SETR's code, where mmseg's port has a 1x1. Three things differ from that code: it drops the class
token before the encoder, which stays here, because pre-training had it; its auxiliary classifiers have no bias; and its
main one starts from torch's default weights, not from normal ones of 0.01. Not reproduced here.
"""

_base_ = [
    '../_base_/setr_deit-s.py',
    '../_base_/cityscapes_768.py',
    '../_base_/sgd_40k.py',
    '../_base_/mmseg_runtime.py',
]

model = dict(
    backbone=dict(out_indices=(2, 5, 8, 11)),
    neck=dict(
        type='MLANeck',
        in_channels=[384] * 4,
        out_channels=256,
        norm_cfg=dict(type='BN'),
        act_cfg=dict(type='ReLU'),
    ),
    decode_head=dict(
        type='mstkit.SETROriginalMLAHead',
        in_channels=(256, 256, 256, 256),
        channels=512,
        in_index=(0, 1, 2, 3),
        dropout_ratio=0,
        mla_channels=128,
        num_classes=19,
        norm_cfg=dict(type='BN'),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    auxiliary_head=[
        dict(
            type='FCNHead',
            in_channels=256,
            channels=256,
            in_index=index,
            dropout_ratio=0,
            num_convs=0,
            kernel_size=1,
            concat_input=False,
            num_classes=19,
            align_corners=False,
            loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4),
        )
        for index in range(4)
    ],
)
optim_wrapper = dict(optimizer=dict(lr=0.002))
