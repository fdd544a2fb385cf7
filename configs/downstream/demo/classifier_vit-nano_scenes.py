"""Classification of the built-in scenes, sized for two CPU cores: what `make demo-transfer` runs.

Command: python tools/train.py configs/downstream/demo/classifier_vit-nano_scenes.py --pretrained FILE
FILE is a checkpoint of configs/demo/mst_vit-nano_scenes.py. A thousand scenes with labels, a quarter of those that
it was pre-trained on. docs/en/results_transfer.md has what it reached.
"""

_base_ = '../mmpretrain/vit-tiny_folder.py'

model = dict(
    backbone=dict(
        arch=dict(embed_dims=128, num_layers=4, num_heads=4, feedforward_channels=512),
        img_size=48,
    ),
    head=dict(in_channels=128, num_classes=10),
    data_preprocessor=dict(num_classes=10),
)
train_pipeline = [
    dict(type='RandomResizedCrop', scale=48, crop_ratio_range=(0.4, 1.0), backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
# The scenes are 48 px already; images that an inferencer is given may be of any size.
test_pipeline = [
    dict(type='mstkit.InferencerImage'),
    dict(type='mstkit.LoadRGB'),
    dict(type='mmpretrain.ResizeEdge', scale=48, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='mmpretrain.CenterCrop', crop_size=48),
    dict(type='mmpretrain.PackInputs'),
]
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        _delete_=True, type='BuiltinScenes', split='train', num_images=1000, image_size=48, pipeline=train_pipeline
    ),
)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        _delete_=True, type='BuiltinScenes', split='val', num_images=1000, image_size=48, pipeline=test_pipeline
    ),
)
test_dataloader = val_dataloader
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=1, end=10, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=10, val_interval=5)
default_hooks = dict(logger=dict(interval=25))
