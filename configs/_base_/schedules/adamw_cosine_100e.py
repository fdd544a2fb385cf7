# DINO's optimizer and schedules (Caron et al. 2021): AdamW, lr 5e-4 per 256 images with 10 epochs of linear warm-up
# from 0 and a cosine to 1e-6, weight decay by a cosine from 0.04 to 0.4, both per optimizer step.
optim_wrapper = dict(
    type='DistillationOptimWrapper',
    constructor='TrainableOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=5e-4, betas=(0.9, 0.999), weight_decay=0.04, fused=True),
    clip_norm=3.0,
    freeze_last_layer_epochs=1,
    # Biases and one-dimensional parameters are not decayed; class token, position and weight norm are, as in DINO.
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0),
)
auto_scale_lr = dict(base_batch_size=256, enable=False)

param_scheduler = [
    # mmengine's factor cannot start at 0 (it multiplies the last value); 1e-9 of the lr is as good.
    dict(type='LinearLR', start_factor=1e-9, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=10, end=100, convert_to_iter_based=True),
    # eta_min_ratio, not eta_min: groups without decay stay at 0.
    dict(
        type='CosineAnnealingWeightDecay',
        eta_min_ratio=10,
        by_epoch=True,
        begin=0,
        end=100,
        convert_to_iter_based=True,
    ),
]

train_cfg = dict(type='ResumableEpochLoop', max_epochs=100)
