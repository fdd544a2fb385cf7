"""Depth on NYU-Depth v2 with Swin-T, 25,000 iterations: the recipe of "Dark Secrets" with its simple head.

Command: python tools/train.py configs/downstream/mmseg/depth_swin-t_480x480_25k_nyu.py --pretrained FILE \
    --data-root DIR
FILE is a Swin-T checkpoint, such as that of configs/simmim/simmim_swin-t_100e.py or configs/mst/mst_swin-t_100e.py.
DIR has images/{train,test} and annotations/{train,test} of mmseg's NYU-Depth v2. Paper: "Revealing the Dark Secrets of
Masked Image Modeling" (arXiv 2205.13543), whose networks are Swin-v2 with windows of 30: Swin-v2-B, SimMIM's, reaches
an RMSE of 0.304 and d1 93.5 %. Not reproduced here.
"""

_base_ = ['../_base_/depth.py', '../_base_/mmseg_runtime.py']

model = dict(
    backbone=dict(type='mstkit.MaskedSwinTransformer', arch='tiny', img_size=480, drop_path_rate=0.3, out_indices=(3,)),
    decode_head=dict(in_channels=768, channels=96, deconvolutions=3),
)
