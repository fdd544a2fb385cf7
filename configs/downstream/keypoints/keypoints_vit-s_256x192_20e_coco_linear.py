"""Keypoints of persons read linearly out of a frozen ViT-S on COCO, 20 epochs.

Command: bash tools/dist_train.sh configs/downstream/keypoints/keypoints_vit-s_256x192_20e_coco_linear.py 8 \
    --pretrained FILE --data-root DIR
FILE is a ViT-S checkpoint, such as that of configs/attmask/attmask-high_vit-s_100e.py. A 1x1 convolution on the patch
tokens, whose heatmaps are enlarged four times, bilinearly; the backbone stays as it was pre-trained. No paper's recipe:
AdamW with 1e-3 at a batch of 512, without weight decay. Not reproduced here.
"""

_base_ = ['../_base_/coco-keypoints_256x192.py', '../_base_/keypoint_runtime.py']

model = dict(
    backbone=dict(
        type='mstkit.MaskedVisionTransformer',
        arch='deit-small',
        img_size=(256, 192),
        patch_size=16,
        out_type='featmap',
        frozen_stages=12,
    ),
    head=dict(in_channels=384, deconvolutions=0, upsampling=4),
)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.0, fused=True),
    constructor='TrainableOptimWrapperConstructor',
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=20, milestones=[16, 19], gamma=0.1),
]
train_cfg = dict(max_epochs=20, val_interval=5)
