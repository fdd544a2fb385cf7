# MoCo v3's optimizer and schedule (arXiv 2104.02057, section 4.3): AdamW, lr 1.5e-4 per 256 images at a batch of 4096,
# a constant weight decay of 0.1, 40 epochs of linear warm-up and a cosine to 0, no clipping.
optim_wrapper = dict(
    type='DistillationOptimWrapper',
    constructor='TrainableOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=2.4e-3, weight_decay=0.1, fused=True),
    clip_norm=None,
    freeze_last_layer_epochs=0,
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0),
)
auto_scale_lr = dict(base_batch_size=4096, enable=False)

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=True, begin=0, end=40, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=True, begin=40, end=300, convert_to_iter_based=True),
]

train_cfg = dict(type='ResumableEpochLoop', max_epochs=300)
