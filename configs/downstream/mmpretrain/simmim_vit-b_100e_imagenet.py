"""Fine-tunes SimMIM's ViT-B on ImageNet for 100 epochs, on the mean of the patches.

Command: bash tools/dist_train.sh configs/downstream/mmpretrain/simmim_vit-b_100e_imagenet.py 8 \
    --pretrained FILE --data-root DIR
FILE is a checkpoint of configs/simmim/simmim_vit-b_800e.py, or SimMIM's own. Each layer takes a copy of the table of
relative positions that all shared. 1.25e-3 per 512 images, which is 5e-3 at a batch of 2048, decay 0.65 per layer, 20
epochs of warm-up under timm's cosine. Paper: SimMIM (arXiv 2111.09886), 83.8. Not reproduced here.
"""

_base_ = './swin-t_100e_imagenet.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mstkit.MaskedVisionTransformer',
        arch='base',
        img_size=224,
        patch_size=16,
        drop_path_rate=0.1,
        layer_scale_init_value=0.1,
        relative_positions='per_layer',
        positions='none',
        qkv_bias='qv_bias',
        initialization='beit',
        out_type='avg_featmap',
        final_norm=False,  # the mean has a norm of its own
    ),
    neck=None,
    head=dict(in_channels=768, init_cfg=dict(type='TruncNormal', layer='Linear', std=2e-5)),
)
# In SimMIM's code tables are decayed in a ViT, and not in a Swin; factors of LayerScale and biases are vectors.
optim_wrapper = dict(
    paramwise_cfg=dict(
        layer_decay_rate=0.65,
        flat_decay_mult=0.0,
        custom_keys={'.relative_position_bias_table': dict(decay_mult=1.0)},
    )
)
