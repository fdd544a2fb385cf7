"""MST on the built-in scenes, sized for two CPU cores: what `make demo` runs.

Command: make demo
What it reaches is in docs/en/results.md.
"""

_base_ = [
    '../_base_/models/dino_vit-tiny.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/adamw_cosine_folder.py',
]

epochs = 16

# Without batch normalization, a small out_dim and a fast teacher: a few hundred steps have to be enough.
model = dict(
    type='MSTAlgorithm',
    backbone=dict(
        arch=dict(embed_dims=128, num_layers=4, num_heads=4, feedforward_channels=512),
        img_size=48,
    ),
    neck=dict(out_dim=256, batch_norm=None),
    head=dict(teacher_temp=0.03),
    teacher=dict(momentum=0.98),
    objectives=dict(_delete_=True),
    masker=dict(type='AttentionGuidedMasker', num=8, prob=0.10),
    decoder=dict(type='CNNImageDecoder', channels=16),
)

# Colors say nothing about the class here, so the views differ in them as much as they can.
recipe = dict(hue=0.5, gray=0.4, blur=0.2, blur_sigma=(0.1, 0.5))
train_pipeline = [
    dict(type='LoadRGB'),
    dict(
        type='MultiCrop',
        global_crops=dict(size=48, scale=(0.4, 1.0)),
        local_crops=dict(size=24, scale=(0.2, 0.6), count=2),
        global_recipes=[recipe, dict(recipe, solarize=0.2)],
        local_recipe=recipe,
    ),
    dict(type='PackViews'),
]
val_pipeline = [dict(type='PackViews')]

train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    drop_last=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='BuiltinScenes', split='train', num_images=4000, image_size=48, pipeline=train_pipeline),
)

optim_wrapper = dict(freeze_last_layer_epochs=1)
param_scheduler = [
    # Two epochs of warm-up: with one, some seeds lose their features in the second epoch and take long to find them.
    dict(type='LinearLR', start_factor=1e-9, by_epoch=True, begin=0, end=2, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=2, end=epochs, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=epochs)

default_hooks = dict(
    logger=dict(interval=25),
    checkpoint=dict(interval=4),
    knn=dict(
        type='KNNHook',
        train_dataset=dict(type='BuiltinScenes', split='train', num_images=4000, image_size=48, pipeline=val_pipeline),
        val_dataset=dict(type='BuiltinScenes', split='val', num_images=1000, image_size=48, pipeline=val_pipeline),
        interval=4,
        batch_size=250,
    ),
    panels=dict(type='PanelHook', interval=8),
)
