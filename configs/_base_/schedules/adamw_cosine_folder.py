# AdamW for small sets and small batches: a constant weight decay, three epochs of warm-up, a cosine to the end.
epochs = 100

optim_wrapper = dict(
    type='DistillationOptimWrapper',
    constructor='TrainableOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.04, fused=True),
    clip_norm=3.0,
    freeze_last_layer_epochs=0,  # an epoch may be ten steps or a thousand; the warm-up protects the start
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0),
)
auto_scale_lr = dict(base_batch_size=32, enable=False)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=True, begin=0, end=3, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=3, end=epochs, convert_to_iter_based=True),
]
train_cfg = dict(type='ResumableEpochLoop', max_epochs=epochs)
