# Muon for the matrices of the blocks, AdamW for the rest: for small sets and short runs (docs/en/results_recipes.md has
# the search). A tenth of the run is warm-up, a cosine follows.
_base_ = './adamw_cosine_folder.py'

epochs = 100

optim_wrapper = dict(optimizer=dict(type='MuonAdamW', matrix_lr=0.01, matrix_weight_decay=0.0))
auto_scale_lr = dict(base_batch_size=64)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=10, end=epochs, convert_to_iter_based=True),
]

# Chosen at the start from the number of images and steps, printed; what is given on the command line stays.
fitted = dict(
    batch=['train_dataloader.batch_size'],
    prototypes=['model.neck.out_dim'],
    momentum=['model.teacher.momentum'],
    warmup=['param_scheduler.0.end', 'param_scheduler.1.begin'],
)
