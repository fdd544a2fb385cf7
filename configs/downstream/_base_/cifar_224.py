# CIFAR's pictures come as RGB arrays, which LoadRGB only checks; the rest is that of classify_224.py.
_base_ = './attmask_transfer.py'

train_dataloader = dict(
    dataset=dict(
        _delete_=True, type='CIFAR10', data_root='data/cifar10', split='train', pipeline={{_base_.train_pipeline}}
    )
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True, type='CIFAR10', data_root='data/cifar10', split='test', pipeline={{_base_.test_pipeline}}
    )
)
test_dataloader = val_dataloader

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-8, by_epoch=True, begin=5, end=500, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=500, val_interval=10)
