# BEiT's optimizer and schedule (arXiv 2106.08254, appendix; its code and mmpretrain's config): AdamW, lr 1.5e-3 at a
# batch of 2048, 10 epochs of linear warm-up and a cosine to 1e-5, a constant weight decay; the norm of all gradients is
# clipped together, at 3. Decayed are the [MASK] token and the position biases too, the class token is not.
optim_wrapper = dict(
    type='DistillationOptimWrapper',
    constructor='TrainableOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1.5e-3, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    clip_norm=3.0,
    clip_mode='global',
    freeze_last_layer_epochs=0,
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys=dict(cls_token=dict(decay_mult=0.0)),
    ),
)
auto_scale_lr = dict(base_batch_size=2048, enable=False)

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=10, end=300, convert_to_iter_based=True),
]

train_cfg = dict(type='ResumableEpochLoop', max_epochs=300)
