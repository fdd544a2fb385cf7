# data2vec 2.0's optimizer and schedule for ViT-B (the config of its code): AdamW, lr 1e-3 at a batch of 256 images
# under 16 masks each, betas (0.9, 0.95), 10 epochs of warm-up and a cosine to 0, gradients clipped at a norm of 4.
_base_ = './mae_800e.py'

optim_wrapper = dict(optimizer=dict(lr=1e-3), clip_norm=4.0, clip_mode='global')
auto_scale_lr = dict(base_batch_size=256, enable=False)

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=True, begin=10, end=75, convert_to_iter_based=True),
]

train_cfg = dict(max_epochs=75)
