# MSN's optimizer and schedules (the config of its code): AdamW, lr 1e-3 at a batch of 1024, 15 epochs of warm-up from
# 2e-4; cosines of the lr to 1e-6 and of the weight decay from 0.04 to 0.4, both made for 1,000 epochs and cut off after
# 800. Gradients are clipped together; prototypes are not decayed.
epochs = 800

optim_wrapper = dict(
    type='DistillationOptimWrapper',
    constructor='TrainableOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.04, fused=True),
    clip_norm=3.0,
    clip_mode='global',
    freeze_last_layer_epochs=0,
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys=dict(last_layer=dict(decay_mult=0.0)),
    ),
)
auto_scale_lr = dict(base_batch_size=1024, enable=False)

param_scheduler = [
    dict(type='LinearLR', start_factor=0.2, by_epoch=True, begin=0, end=15, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        T_max=985,
        eta_min=1e-6,
        by_epoch=True,
        begin=15,
        end=epochs,
        convert_to_iter_based=True,
    ),
    # eta_min_ratio, not eta_min: groups without decay stay at 0.
    dict(
        type='CosineAnnealingWeightDecay',
        T_max=1000,
        eta_min_ratio=10,
        by_epoch=True,
        begin=0,
        end=epochs,
        convert_to_iter_based=True,
    ),
]

train_cfg = dict(type='ResumableEpochLoop', max_epochs=epochs)
