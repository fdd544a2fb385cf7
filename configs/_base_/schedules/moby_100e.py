# MoBY's optimizer and schedule (arXiv 2105.04553): AdamW, lr 1e-3 per 512 images with 5 epochs of linear warm-up from
# 5e-7 and timm's cosine to 5e-6, which counts from the start of the warm-up, all three scaled like the lr; a constant
# weight decay; the norm of all gradients clipped together.
optim_wrapper = dict(
    type='DistillationOptimWrapper',
    constructor='TrainableOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    clip_norm=5.0,
    clip_mode='global',
    freeze_last_layer_epochs=0,
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0),
)
auto_scale_lr = dict(base_batch_size=512, enable=False)

# A factor and a ratio, not values: so they follow when --auto-scale-lr changes the lr.
param_scheduler = [
    dict(
        type='WarmupCosineLR',
        warmup=5,
        start_factor=5e-4,
        eta_min_ratio=5e-3,
        by_epoch=True,
        begin=0,
        end=100,
        convert_to_iter_based=True,
    ),
]

train_cfg = dict(type='ResumableEpochLoop', max_epochs=100)
