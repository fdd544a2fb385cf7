# CL-MAE's optimizer and schedule, as its code has them: MAE's with lr 1e-3 per 256 images, for the masking network too,
# over 200 epochs, 40 of them warm-up.
_base_ = './mae_800e.py'

optim_wrapper = dict(optimizer=dict(lr=1e-3))
auto_scale_lr = dict(base_batch_size=256, enable=False)

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=True, begin=0, end=40, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=True, begin=40, end=200, convert_to_iter_based=True),
]

train_cfg = dict(max_epochs=200)
