"""Fine-tunes DeiT-S on CIFAR-100 for 500 epochs, as AttMask does (6 GPUs of 150 pictures).

Command: bash tools/dist_train.sh configs/downstream/mmpretrain/deit-s_500e_cifar100.py 6 \
    --pretrained FILE --data-root DIR
DIR gets the data set where it is missing. Not reproduced here.
"""

_base_ = '../_base_/attmask_transfer.py'

model = dict(head=dict(num_classes=100), data_preprocessor=dict(num_classes=100))

# CIFAR's pictures come as RGB arrays: nothing is to be read.
data_root = 'data/cifar100'
train_pipeline = {{_base_.train_pipeline}}[1:]
val_pipeline = {{_base_.val_pipeline}}[1:]
train_dataloader = dict(
    dataset=dict(_delete_=True, type='CIFAR100', data_root=data_root, split='train', pipeline=train_pipeline)
)
val_dataloader = dict(
    dataset=dict(_delete_=True, type='CIFAR100', data_root=data_root, split='test', pipeline=val_pipeline)
)
test_dataloader = val_dataloader

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-8, by_epoch=True, begin=5, end=500, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=500, val_interval=10)
