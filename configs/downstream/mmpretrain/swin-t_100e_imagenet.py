"""Fine-tunes Swin-T on ImageNet for 100 epochs, with layer-wise decay of the learning rate.

Command: bash tools/dist_train.sh configs/downstream/mmpretrain/swin-t_100e_imagenet.py 8 \
    --pretrained FILE --data-root DIR
No row of MST's tables, which probe linearly. The recipe is SimMIM's for Swin (its code is for Swin-B): 1.25e-3 per 512
images, which is 5e-3 at its batch of 2048, decay 0.9 per layer, 20 epochs of warm-up under timm's cosine. Not
reproduced here.
"""

_base_ = ['../_base_/classify_224.py', '../_base_/mmpretrain_runtime.py']

model = dict(
    backbone=dict(type='mstkit.MaskedSwinTransformer', arch='tiny', img_size=224, drop_path_rate=0.1),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(in_channels=768),
)
train_dataloader = dict(batch_size=256)
optim_wrapper = dict(
    optimizer=dict(lr=1.25e-3 * 2048 / 512),
    paramwise_cfg=dict(layer_decay_rate=0.9),
    clip_grad=dict(max_norm=5.0),
)
# Both ends scale like the lr: 2.5e-7 per 512 images.
param_scheduler = [
    dict(
        type='WarmupCosineLR',
        warmup=20,
        start_factor=2e-4,
        eta_min_ratio=2e-4,
        by_epoch=True,
        begin=0,
        end=100,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(base_batch_size=2048)
