# CIFAR's images come as RGB arrays, which LoadRGB only checks; the rest is that of classify_224.py.
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
