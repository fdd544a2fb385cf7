# MAE's optimizer and schedule (arXiv 2111.06377, table 8): AdamW, lr 1.5e-4 per 256 images at a batch of 4096, betas
# (0.9, 0.95), 40 epochs of linear warm-up from 0 and a cosine to 0, a constant weight decay, no clipping.
optim_wrapper = dict(
    type='DistillationOptimWrapper',
    constructor='TrainableOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=2.4e-3, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
    clip_norm=None,
    freeze_last_layer_epochs=0,
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0),
)
auto_scale_lr = dict(base_batch_size=4096, enable=False)

param_scheduler = [
    # mmengine's factor cannot start at 0 (it multiplies the last value); 1e-9 of the lr is as good.
    dict(type='LinearLR', start_factor=1e-9, by_epoch=True, begin=0, end=40, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=True, begin=40, end=800, convert_to_iter_based=True),
]

train_cfg = dict(type='ResumableEpochLoop', max_epochs=800)
