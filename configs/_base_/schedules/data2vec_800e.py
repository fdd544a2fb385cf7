# data2vec's optimizer and schedule for ViT-B (the command of its code): as BEiT's, but lr 2e-3 at a batch of 2048 and
# 800 epochs.
_base_ = './beit_300e.py'

optim_wrapper = dict(optimizer=dict(lr=2e-3))

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=10, end=800, convert_to_iter_based=True),
]

train_cfg = dict(max_epochs=800)
