"""Keypoints of your own objects, from a small ViT: hundreds of images in COCO's format, a small machine.

Command: python tools/train.py configs/downstream/keypoints/keypoints_vit-tiny_folder.py \
    --pretrained FILE --data-root DIR [--epochs N]
FILE is a checkpoint of a *_vit-tiny_folder.py, such as configs/mst/mst_vit-tiny_folder.py. DIR has train2017, val2017
and annotations/person_keypoints_{train,val}2017.json, of objects of one category, whatever it is. Not reproduced here.
"""

_base_ = [
    '../_base_/coco-keypoints_256x192.py',
    '../_base_/adamw_layer_decay.py',
    '../_base_/keypoint_runtime.py',
]

size = (128, 128)

model = dict(
    backbone=dict(
        type='mstkit.MaskedVisionTransformer',
        arch=dict(embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768),
        img_size=128,
        patch_size=8,
        out_type='featmap',
    ),
    head=dict(in_channels=192, deconvolutions=1, channels=128, sigma=1.5),
)
train_pipeline = [
    dict(type='LoadRGB'),
    dict(type='CropInstance', size=size, scale=0.3, rotation=40.0, flip_prob=0.5),
    dict(type='PackKeypoints'),
]
test_pipeline = [
    dict(type='LoadRGB'),
    dict(type='CropInstance', size=size),
    dict(type='PackKeypoints'),
]
train_dataloader = dict(batch_size=32, num_workers=2, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=64, num_workers=2, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

# bf16 where the device has it, CPUs too.
optim_wrapper = dict(
    type='mstkit.DistillationOptimWrapper',
    optimizer=dict(lr=5e-4),
    paramwise_cfg=dict(layer_decay_rate=0.8),
    clip_norm=None,
    freeze_last_layer_epochs=0,
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=40, milestones=[32, 38], gamma=0.1),
]
train_cfg = dict(max_epochs=40, val_interval=5)
auto_scale_lr = dict(base_batch_size=32)
