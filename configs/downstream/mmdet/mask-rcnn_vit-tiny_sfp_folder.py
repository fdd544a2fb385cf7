"""Mask R-CNN on your own folder in COCO's format, from a small ViT: hundreds of images, a small machine.

Command: python tools/train.py configs/downstream/mmdet/mask-rcnn_vit-tiny_sfp_folder.py \
    --pretrained FILE --data-root DIR [--epochs N]
FILE is a checkpoint of a *_vit-tiny_folder.py, such as configs/mst/mst_vit-tiny_folder.py. DIR has train2017/,
val2017/ and annotations/instances_{train,val}2017.json; the classes are read from those.
docs/en/results_transfer.md has what it reached.
"""

_base_ = ['../_base_/mask-rcnn.py', '../_base_/coco.py', '../_base_/adamw_1x.py', '../_base_/mmdet_runtime.py']

model = dict(
    data_preprocessor=dict(pad_size_divisor=64),
    backbone=dict(
        type='mstkit.MaskedVisionTransformer',
        arch=dict(embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768),
        img_size=64,
        patch_size=8,
        out_type='featmap',
    ),
    # A quarter of the usual width, and a pyramid that starts from patches of 8 px.
    neck=dict(type='mstkit.SimpleFPN', in_channels=192, out_channels=64, scale_factors=(2.0, 1.0, 0.5, 0.25)),
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(in_channels=64, fc_out_channels=256),
        mask_roi_extractor=dict(out_channels=64),
        mask_head=dict(in_channels=64, conv_out_channels=64),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=250),
        rcnn=dict(sampler=dict(num=128)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=250)),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=(256, 192), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(256, 192), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(batch_size=4, dataset=dict(filter_cfg=dict(min_size=8), pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(classwise=False)

# bf16 where the device has it, CPUs too.
optim_wrapper = dict(
    type='mstkit.DistillationOptimWrapper',
    optimizer=dict(lr=2e-4),
    clip_norm=10.0,
    clip_mode='global',
    freeze_last_layer_epochs=0,
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=100),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=12, milestones=[8, 11], gamma=0.1),
]
auto_scale_lr = dict(base_batch_size=4)
# An epoch of a few hundred images is short.
train_cfg = dict(val_interval=4)
