"""Fine-tunes MAE's ViT-B on ImageNet for 100 epochs, on the mean of the patches.

Command: bash tools/dist_train.sh configs/downstream/mmpretrain/mae_vit-b_100e_imagenet.py 8 \
    --pretrained FILE --data-root DIR
FILE is a checkpoint of configs/mae/mae_vit-b_800e.py, or MAE's own. Its appendix A.2: 5e-4 per 256 images at a batch of
1024, decay 0.65 per layer, stochastic depth 0.1, mixup 0.8, cutmix 1, erasing 0.25, label smoothing 0.1. Paper: MAE
(arXiv 2111.06377), 83.6 after 1600 epochs of pre-training; mmpretrain's run of 800: 83.3. Not reproduced here.
"""

_base_ = ['../_base_/classify_224.py', '../_base_/mmpretrain_runtime.py']

model = dict(
    backbone=dict(
        type='mstkit.MaskedVisionTransformer',
        arch='base',
        img_size=224,
        patch_size=16,
        drop_path_rate=0.1,
        out_type='avg_featmap',
        final_norm=False,  # the mean has a norm of its own
    ),
    head=dict(in_channels=768, init_cfg=dict(type='TruncNormal', layer='Linear', std=2e-5)),
)
