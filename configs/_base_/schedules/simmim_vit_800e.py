# SimMIM's optimizer and schedule for ViT-B (arXiv 2111.09886, section 4.1; its code): AdamW, lr 4e-4 at a batch of 2048
# with 10 epochs of linear warm-up from 2e-6, a tenth of it from epoch 700 on; a constant weight decay of all but
# vectors and the class token, so of the table of positions as well; the norm of all gradients clipped together.
optim_wrapper = dict(
    type='DistillationOptimWrapper',
    constructor='TrainableOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=4e-4, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    clip_norm=5.0,
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

# Factors, not values: so they follow when --auto-scale-lr changes the lr.
param_scheduler = [
    dict(type='LinearLR', start_factor=5e-3, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type='MultiStepLR', milestones=[700], gamma=0.1, by_epoch=True, begin=0, end=800),
]

train_cfg = dict(type='ResumableEpochLoop', max_epochs=800)
