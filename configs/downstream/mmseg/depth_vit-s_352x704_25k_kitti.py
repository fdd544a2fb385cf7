"""Depth on KITTI with ViT-S, 25,000 iterations: the recipe of "Dark Secrets", to 80 m, measured in Garg's crop.

Command: python tools/train.py configs/downstream/mmseg/depth_vit-s_352x704_25k_kitti.py --pretrained FILE \
    --data-root DIR
FILE is a ViT-S checkpoint. DIR is KITTI as its archives are unpacked: raw data DATE/DRIVE/image_0{2,3}/data, and the
annotated depth {train,val}/DRIVE/proj_depth/groundtruth. That is the benchmark's own split; for Eigen's, give its lists
as ann_file of the data sets, with units=256. Paper: "Revealing the Dark Secrets of Masked Image Modeling" (arXiv
2205.13543): Swin-v2-B on Eigen's split, RMSE 2.050, d1 97.6 %, with crops of 352x352. Not reproduced here.
"""

_base_ = ['../_base_/depth.py', '../_base_/mmseg_runtime.py']

farthest = 80.0
data_root = 'data/kitti'
crop_size = (352, 704)

model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        type='mstkit.MaskedVisionTransformer',
        arch='deit-small',
        img_size=crop_size,
        patch_size=16,
        drop_path_rate=0.1,
        out_type='featmap',
        interpolate_mode='bilinear',
    ),
    decode_head=dict(in_channels=384, deconvolutions=2, farthest=farthest),
    test_cfg=dict(crop_size=crop_size, stride=(352, 512)),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mstkit.LoadDepth'),
    dict(type='mstkit.CropBottom', height=352, width=1216),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion', brightness_delta=25, contrast_range=(0.9, 1.1), saturation_range=(0.9, 1.1)),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mstkit.LoadDepth'),
    dict(type='mstkit.CropBottom', height=352, width=1216),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(dataset=dict(data_root=data_root, farthest=farthest, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(data_root=data_root, split='val', farthest=farthest, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(farthest=farthest, crop='garg')
test_evaluator = val_evaluator
