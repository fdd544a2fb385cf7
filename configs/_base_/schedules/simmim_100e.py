# SimMIM's optimizer and schedule for Swin-B (arXiv 2111.09886, section 4.1; its code): AdamW, lr 8e-4 at a batch of
# 2048 with 10 epochs of linear warm-up from 4e-6 and timm's cosine to 4e-5, which counts from the start of the warm-up;
# a constant weight decay; the norm of all gradients clipped together.
optim_wrapper = dict(
    type='DistillationOptimWrapper',
    constructor='TrainableOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=8e-4, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    clip_norm=5.0,
    clip_mode='global',
    freeze_last_layer_epochs=0,
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys=dict(relative_position_bias_table=dict(decay_mult=0.0)),
    ),
)
auto_scale_lr = dict(base_batch_size=2048, enable=False)

# A factor and a ratio, not values: so they follow when --auto-scale-lr changes the lr.
param_scheduler = [
    dict(
        type='WarmupCosineLR',
        warmup=10,
        start_factor=5e-3,
        eta_min_ratio=5e-2,
        by_epoch=True,
        begin=0,
        end=100,
        convert_to_iter_based=True,
    ),
]

train_cfg = dict(type='ResumableEpochLoop', max_epochs=100)
