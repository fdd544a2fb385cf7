"""MAE with a Swin-T that encodes visible patches alone (UM-MAE), 256 px, 200 epochs of ImageNet-1k.

Command: bash tools/dist_train.sh configs/mae/mae-uniform_swin-t_200e.py 8 --auto-scale-lr
(UM-MAE's batch is 4096, for example 64 processes x 64 images; --auto-scale-lr fits the lr to any other)
Paper: UM-MAE (arXiv 2205.10063), Swin-T, fine-tuned 82.04 at 256 px (SimMIM there: 82.20 in twice the time), with
patches of 16 px and positions of its own, see docs/en/masks.md. Not reproduced here.
"""

_base_ = './mae_vit-b_800e.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='MaskedSwinTransformer',
        arch='tiny',
        img_size=256,
        window_size=8,
        drop_path_rate=0.0,
    ),
    decoder=dict(num_layers=2),
    masker=dict(_delete_=True, type='UniformMasker', secondary=0.25),
)

train_pipeline = [
    dict(type='LoadRGB'),
    dict(
        type='MultiCrop',
        global_crops=dict(size=256, scale=(0.2, 1.0), count=1),
        local_crops=dict(count=0),
        global_recipes=dict(jitter=0.0, gray=0.0, blur=0.0),
    ),
    dict(type='PackViews'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=True, begin=10, end=200, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=200)
