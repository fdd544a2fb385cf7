"""Depth on your own images and depth maps, from a small ViT: hundreds of images, a small machine.

Command: python tools/train.py configs/downstream/mmseg/depth_vit-tiny_folder.py --pretrained FILE --data-root DIR
FILE is a checkpoint of a *_vit-tiny_folder.py, such as configs/mae/mae_vit-tiny_folder.py. DIR has images/{train,val}
and annotations/{train,val} with depth maps of the same names: 16-bit PNG or TIFF files with 1000 in a meter, or floats
in meters (TIFF, .npy); 0 is unknown. Depths beyond 10 m do not count: farthest and units of DepthFolder, and farthest
of head and metric, are for others. Not reproduced here.
"""

_base_ = ['../_base_/depth.py', '../_base_/mmseg_runtime.py']

farthest = 10.0
iterations = 2000
data_root = 'data/images'
crop_size = (192, 192)

model = dict(
    data_preprocessor=dict(size=crop_size, test_cfg=dict(size_divisor=8)),
    backbone=dict(
        type='mstkit.MaskedVisionTransformer',
        arch=dict(embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768),
        img_size=192,
        patch_size=8,
        out_type='featmap',
        interpolate_mode='bilinear',
    ),
    decode_head=dict(in_channels=192, channels=32, deconvolutions=1, farthest=farthest),
    test_cfg=dict(crop_size=crop_size, stride=(64, 128)),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mstkit.LoadDepth'),
    dict(type='Resize', scale=(320, 256), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion', brightness_delta=25, contrast_range=(0.9, 1.1), saturation_range=(0.9, 1.1)),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(320, 256), keep_ratio=True),
    dict(type='mstkit.LoadDepth'),  # after Resize: the metric is taken at the size of the depth map
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=8, num_workers=2, dataset=dict(data_root=data_root, farthest=farthest, pipeline=train_pipeline)
)
val_dataloader = dict(
    num_workers=2, dataset=dict(data_root=data_root, split='val', farthest=farthest, pipeline=test_pipeline)
)
test_dataloader = val_dataloader
val_evaluator = dict(farthest=farthest)
test_evaluator = val_evaluator

# bf16 where the device has it, CPUs too.
optim_wrapper = dict(
    type='mstkit.DistillationOptimWrapper',
    paramwise_cfg=dict(layer_decay_rate=0.75),
    clip_norm=5.0,
    clip_mode='global',
    freeze_last_layer_epochs=0,
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='PolyLR', eta_min=1e-6, power=0.9, begin=100, end=iterations, by_epoch=False),
]
train_cfg = dict(max_iters=iterations, val_interval=500)
default_hooks = dict(checkpoint=dict(interval=500))
auto_scale_lr = dict(base_batch_size=8)
