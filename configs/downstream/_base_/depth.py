# Depth by mmseg's DepthEstimator: what its configs have in common, with the data of NYU-Depth v2 and the schedule of
# "Revealing the Dark Secrets of Masked Image Modeling" (arXiv 2205.13543, its code): AdamW at 5e-4 for a batch of 24,
# weight decay 0.05, layer decay 0.9, 25 epochs (of 24,231 images), up for half of them and down again to 3e-5. There
# the rate goes with the 0.9th power of the step, here linearly; of its augmentations, cut-depth and gamma are left out.
_base_ = './adamw_layer_decay.py'

farthest = 10.0
data_root = 'data/nyu'
crop_size = (480, 480)
iterations = 25000

model = dict(
    type='DepthEstimator',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=0,  # of the depth, too: unknown
        size=crop_size,
    ),
    decode_head=dict(type='mstkit.DeconvolutionDepthHead', farthest=farthest, channels=64),
    train_cfg=dict(),
    # Two crops of an image of 480x640, each as it is and flipped, as there.
    test_cfg=dict(mode='slide_flip', crop_size=crop_size, stride=(160, 160)),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mstkit.LoadDepth'),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion', brightness_delta=25, contrast_range=(0.9, 1.1), saturation_range=(0.9, 1.1)),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mstkit.LoadDepth'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=24,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='mstkit.DepthFolder', data_root=data_root, split='train', farthest=farthest, pipeline=train_pipeline
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mstkit.DepthFolder',
        data_root=data_root,
        split='test',
        farthest=farthest,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mstkit.KnownDepthMetric', farthest=farthest)
test_evaluator = val_evaluator

optim_wrapper = dict(
    optimizer=dict(lr=5e-4),
    constructor='mstkit.BackboneLayerDecayConstructor',  # mmpretrain's asks the model, which mmseg's are not made for
    paramwise_cfg=dict(layer_decay_rate=0.9),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.06, by_epoch=False, begin=0, end=iterations // 2),
    dict(type='LinearLR', start_factor=1.0, end_factor=0.06, by_epoch=False, begin=iterations // 2, end=iterations),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations, val_interval=4000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=24)
