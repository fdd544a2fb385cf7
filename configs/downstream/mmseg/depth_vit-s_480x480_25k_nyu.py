"""Depth on NYU-Depth v2 with ViT-S, 25,000 iterations: the recipe of "Dark Secrets" with its simple head.

Command: python tools/train.py configs/downstream/mmseg/depth_vit-s_480x480_25k_nyu.py --pretrained FILE --data-root DIR
FILE is a ViT-S checkpoint, such as that of configs/mae/mae_vit-s_800e.py. DIR has images/{train,test} and
annotations/{train,test} of mmseg's NYU-Depth v2. Paper: "Revealing the Dark Secrets of Masked Image Modeling" (arXiv
2205.13543), whose networks are Swin-v2: Swin-v2-B, SimMIM's, reaches an RMSE of 0.304 and d1 93.5 %. No row has a ViT.
Not reproduced here.
"""

_base_ = ['../_base_/depth.py', '../_base_/mmseg_runtime.py']

model = dict(
    backbone=dict(
        type='mstkit.MaskedVisionTransformer',
        arch='deit-small',
        img_size=480,
        patch_size=16,
        drop_path_rate=0.1,
        out_type='featmap',
        interpolate_mode='bilinear',
    ),
    decode_head=dict(in_channels=384, deconvolutions=2),
)
