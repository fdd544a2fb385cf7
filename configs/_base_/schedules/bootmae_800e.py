# BootMAE's optimizer and schedule for ViT-B (the command of its code): as MAE's, but a cosine to 1e-4.
_base_ = './mae_800e.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=True, begin=0, end=40, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-4, by_epoch=True, begin=40, end=800, convert_to_iter_based=True),
]
