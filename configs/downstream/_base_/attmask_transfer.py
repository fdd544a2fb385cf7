# AttMask's fine-tuning on small sets, by DeiT's recipe without layer decay: lr 7.5e-6 per 512 images, which is 1.3e-5
# at its batch of 6 x 150; 5 epochs of warm-up from 1e-6; timm's cosine to 1e-5, a value that does not scale with the
# batch, in epochs; three augmented versions of each image in an epoch of a third as many images. Position and class
# token are decayed, as all that has more than one dimension.
_base_ = ['./classify_224.py', './mmpretrain_runtime.py']

model = dict(
    backbone=dict(
        type='mstkit.MaskedVisionTransformer', arch='deit-small', img_size=224, patch_size=16, drop_path_rate=0.1
    ),
    head=dict(in_channels=384, init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02)),
)
train_dataloader = dict(batch_size=150, sampler=dict(_delete_=True, type='RoundedRepeatAugSampler'))
optim_wrapper = dict(
    optimizer=dict(lr=7.5e-6 * 900 / 512),
    paramwise_cfg=dict(
        layer_decay_rate=1.0, custom_keys={'.cls_token': dict(decay_mult=1.0), '.pos_embed': dict(decay_mult=1.0)}
    ),
)
epochs = 500
param_scheduler = [
    dict(type='WarmupCosineLR', warmup=5, start_lr=1e-6, eta_min=1e-5, by_epoch=True, begin=0, end=epochs),
]
train_cfg = dict(max_epochs=epochs, val_interval=10)
auto_scale_lr = dict(base_batch_size=900)
