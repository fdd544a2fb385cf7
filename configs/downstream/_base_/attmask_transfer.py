# AttMask's fine-tuning on small sets: a tiny learning rate for very long, without layer decay (DeiT's augmentation).
_base_ = ['./classify_224.py', './mmpretrain_runtime.py']

model = dict(
    backbone=dict(
        type='mstkit.MaskedVisionTransformer', arch='deit-small', img_size=224, patch_size=16, drop_path_rate=0.1
    ),
    head=dict(in_channels=384),
)
train_dataloader = dict(batch_size=150)
optim_wrapper = dict(optimizer=dict(lr=7.5e-6), paramwise_cfg=dict(layer_decay_rate=1.0))
auto_scale_lr = dict(base_batch_size=900)
