"""Fine-tunes DeiT-S on Oxford Flowers, or another small folder with a folder per class, for 1000 epochs.

Command: bash tools/dist_train.sh configs/downstream/mmpretrain/deit-s_1000e_flowers.py 6 \
    --pretrained FILE --branch teacher --data-root DIR
AttMask's transfer (6 GPUs of 150 images), which takes the teacher. DIR has train/ (of Flowers: its train and its
validation split, 2040 images) and val/ (its test split) with a folder per class. Not reproduced here.
"""

_base_ = '../_base_/attmask_transfer.py'

epochs = 1000
param_scheduler = [
    dict(type='WarmupCosineLR', warmup=5, start_lr=1e-6, eta_min=1e-5, by_epoch=True, begin=0, end=epochs),
]
train_cfg = dict(max_epochs=epochs)
