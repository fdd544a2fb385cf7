"""Fine-tunes a small ViT on your own folder with a folder per class: hundreds of images, a small machine.

Command: python tools/train.py configs/downstream/mmpretrain/vit-tiny_folder.py \
    --pretrained FILE --data-root DIR [--epochs N]
FILE is a checkpoint of a *_vit-tiny_folder.py, such as configs/mst/mst_vit-tiny_folder.py. DIR has train/ and val/
with a folder per class. docs/en/results_flowers.md has what it reached.
"""

_base_ = ['../_base_/classify_224.py', '../_base_/mmpretrain_runtime.py']

model = dict(
    backbone=dict(
        type='mstkit.MaskedVisionTransformer',
        arch=dict(embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768),
        img_size=64,
        patch_size=8,
    ),
    head=dict(in_channels=192),
    train_cfg=None,
)
train_pipeline = [
    dict(type='mstkit.LoadRGB'),
    dict(type='RandomResizedCrop', scale=64, crop_ratio_range=(0.25, 1.0), backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='mstkit.InferencerImage'),
    dict(type='mstkit.LoadRGB'),
    dict(type='mmpretrain.ResizeEdge', scale=73, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='mmpretrain.CenterCrop', crop_size=64),
    dict(type='mmpretrain.PackInputs'),
]
train_dataloader = dict(batch_size=32, num_workers=2, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=128, num_workers=2, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(topk=(1,))
test_evaluator = val_evaluator

# bf16 where the device has it, CPUs too.
optim_wrapper = dict(
    type='mstkit.DistillationOptimWrapper',
    optimizer=dict(lr=5e-4),
    paramwise_cfg=dict(layer_decay_rate=0.75),
    clip_norm=None,
    freeze_last_layer_epochs=0,
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=1, end=20, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=20, val_interval=5)
auto_scale_lr = dict(base_batch_size=32)
