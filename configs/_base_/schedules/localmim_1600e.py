# LocalMIM's optimizer and schedule for ViT-B (the command of its code): as MAE's, but lr 2e-4 per 256 images at a batch
# of 2048 and 1600 epochs.
_base_ = './mae_800e.py'

optim_wrapper = dict(optimizer=dict(lr=1.6e-3))
auto_scale_lr = dict(base_batch_size=2048, enable=False)

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=True, begin=0, end=40, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=40, end=1600, convert_to_iter_based=True),
]

train_cfg = dict(max_epochs=1600)
