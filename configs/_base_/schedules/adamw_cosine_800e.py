# The 100-epoch schedule, stretched; the warm-up stays at 10 epochs.
_base_ = './adamw_cosine_100e.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=10, end=800, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingWeightDecay',
        eta_min_ratio=10,
        by_epoch=True,
        begin=0,
        end=800,
        convert_to_iter_based=True,
    ),
]

train_cfg = dict(max_epochs=800)
