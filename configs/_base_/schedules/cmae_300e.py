# CMAE's optimizer and schedule (the config of its code): as MAE's, but 300 epochs.
_base_ = './mae_800e.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, begin=0, end=40, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=True, begin=40, end=300, convert_to_iter_based=True),
]

train_cfg = dict(max_epochs=300)
