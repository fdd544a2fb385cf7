# Muon for the matrices of the blocks, AdamW for the rest: for small sets and short runs (docs/en/results.md has the
# search). A tenth of the run is warm-up, a cosine follows.
epochs = 100

optim_wrapper = dict(
    type='DistillationOptimWrapper',
    constructor='TrainableOptimWrapperConstructor',
    optimizer=dict(type='MuonAdamW', lr=1e-3, matrix_lr=0.01, weight_decay=0.04, matrix_weight_decay=0.0, fused=True),
    clip_norm=3.0,
    freeze_last_layer_epochs=0,  # an epoch may be ten steps or a thousand; the warm-up protects the start
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0),
)
auto_scale_lr = dict(base_batch_size=64, enable=False)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=10, end=epochs, convert_to_iter_based=True),
]
train_cfg = dict(type='ResumableEpochLoop', max_epochs=epochs)

# Chosen at the start from the number of images and steps, printed; what is given on the command line stays.
fitted = dict(
    batch=['train_dataloader.batch_size'],
    prototypes=['model.neck.out_dim'],
    momentum=['model.teacher.momentum'],
    warmup=['param_scheduler.0.end', 'param_scheduler.1.begin'],
)
