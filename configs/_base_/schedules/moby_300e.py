# The 100-epoch schedule, stretched; the warm-up stays at 5 epochs.
_base_ = './moby_100e.py'

param_scheduler = [
    dict(
        type='WarmupCosineLR',
        warmup=5,
        start_factor=5e-4,
        eta_min_ratio=5e-3,
        by_epoch=True,
        begin=0,
        end=300,
        convert_to_iter_based=True,
    ),
]

train_cfg = dict(max_epochs=300)
