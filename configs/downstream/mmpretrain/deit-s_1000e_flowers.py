"""Fine-tunes DeiT-S on Oxford Flowers, or another small folder with a folder per class, for 1000 epochs.

Command: bash tools/dist_train.sh configs/downstream/mmpretrain/deit-s_1000e_flowers.py 6 \
    --pretrained FILE --data-root DIR
AttMask's transfer (6 GPUs of 150 pictures). DIR has train/ and val/ with a folder per class. Not reproduced here.
"""

_base_ = '../_base_/attmask_transfer.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-8, by_epoch=True, begin=5, end=1000, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=1000, val_interval=10)
