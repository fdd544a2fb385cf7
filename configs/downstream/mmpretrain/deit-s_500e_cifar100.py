"""Fine-tunes DeiT-S on CIFAR-100 for 500 epochs, as AttMask does (6 GPUs of 150 images, from the teacher).

Command: bash tools/dist_train.sh configs/downstream/mmpretrain/deit-s_500e_cifar100.py 6 \
    --pretrained FILE --branch teacher --data-root DIR
DIR gets the data set where it is missing. Not reproduced here.
"""

_base_ = '../_base_/cifar_224.py'

model = dict(head=dict(num_classes=100), data_preprocessor=dict(num_classes=100))
dataset = dict(type='CIFAR100', data_root='data/cifar100')
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = val_dataloader
