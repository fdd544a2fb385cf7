"""Fine-tunes BEiT's ViT-B on ImageNet for 100 epochs, on the mean of the patches.

Command: bash tools/dist_train.sh configs/downstream/mmpretrain/beit_vit-b_100e_imagenet.py 8 \
    --pretrained FILE --data-root DIR
FILE is a checkpoint of configs/beit/beit_vit-b_300e.py, mmpretrain's or BEiT's own. Each layer takes a copy of the
table of relative positions that all shared. The recipe is that of mmpretrain's config: 4e-3 at a batch of 1024, decay
0.65 per layer, 20 epochs of warm-up, cosine to 1e-6, stochastic depth 0.1. Paper: BEiT (arXiv 2106.08254), 83.2 after
800 epochs of pre-training; mmpretrain's run of 300: 83.1, both on DALL-E's tokens. Not reproduced here.
"""

_base_ = './mae_vit-b_100e_imagenet.py'

model = dict(
    backbone=dict(
        layer_scale_init_value=0.1,
        relative_positions='per_layer',
        positions='none',
        qkv_bias='qv_bias',
        initialization='beit',
    ),
    head=dict(init_cfg=dict(std=0.02)),
)
# Tables are decayed, vectors are not.
optim_wrapper = dict(
    optimizer=dict(lr=4e-3),
    paramwise_cfg=dict(flat_decay_mult=0.0, custom_keys={'.relative_position_bias_table': dict(decay_mult=1.0)}),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, begin=0, end=20, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=20, end=100, convert_to_iter_based=True),
]
