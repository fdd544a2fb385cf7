"""SETR-PUP with ViT-B on Cityscapes, 40,000 iterations: for checkpoints of masked image modeling.

Command: python tools/train.py configs/downstream/mmseg/setr_pup_vit-b_768x768_40k_cityscapes.py \
    --pretrained FILE --data-root DIR
FILE is a ViT-B/16 checkpoint with absolute positions, such as that of configs/mae/mae_vit-b_800e.py. Otherwise as
setr_pup_deit-s_768x768_40k_cityscapes.py. No row of a paper. Not reproduced here.
"""

_base_ = './setr_pup_deit-s_768x768_40k_cityscapes.py'

auxiliary = dict(
    type='SETRUPHead',
    in_channels=768,
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
    backbone=dict(arch='base'),
    decode_head=dict(in_channels=768),
    auxiliary_head=[dict(auxiliary, in_index=index) for index in range(4)],
)
