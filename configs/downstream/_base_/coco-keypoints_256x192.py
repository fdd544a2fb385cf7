# COCO's keypoints, or any folder in its format: --data-root DIR, with DIR/train2017, DIR/val2017 and DIR/annotations.
# The keypoints are read from the annotations, and tools/train.py gives the head as many. 210 epochs, and the
# augmentation of SimpleBaseline's code (arXiv 1804.06208), without its half bodies.
data_root = 'data/coco/'
size = (256, 192)  # height, width

model = dict(
    type='KeypointEstimator',
    data_preprocessor=dict(
        type='ImgDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
    ),
    head=dict(type='HeatmapHead', num_keypoints=17),
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
train_dataloader = dict(
    batch_size=64,
    num_workers=8,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    dataset=dict(
        type='KeypointFolder',
        data_root=data_root,
        ann_file='annotations/person_keypoints_train2017.json',
        data_prefix=dict(img='train2017/'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='KeypointFolder',
        data_root=data_root,
        ann_file='annotations/person_keypoints_val2017.json',
        data_prefix=dict(img='val2017/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='KeypointMetric')
test_evaluator = val_evaluator

param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=210, milestones=[170, 200], gamma=0.1),
]
train_cfg = dict(by_epoch=True, max_epochs=210, val_interval=10)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(enable=False, base_batch_size=512)
