"""mmpretrain's MAE (He et al., CVPR 2022) on your own folder of images, with our hooks.

Command: python tools/train.py configs/mmpretrain/mae_vit-tiny_folder.py --data-root DIR [--epochs N]
configs/mst/mst_vit-tiny_folder.py says what DIR holds. No row of a paper: nothing of one is reproduced here.
"""

_base_ = ['../_base_/datasets/folder_multicrop.py', '../_base_/schedules/adamw_cosine_folder.py']

dims, patch = 192, 8

model = dict(
    type='mmpretrain.MAE',
    data_preprocessor=dict(
        type='mstkit.ViewDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    backbone=dict(
        type='mmpretrain.MAEViT',
        arch=dict(embed_dims=dims, num_layers=6, num_heads=3, feedforward_channels=768),
        img_size=64,
        patch_size=patch,
        mask_ratio=0.75,
    ),
    neck=dict(
        type='mmpretrain.MAEPretrainDecoder',
        num_patches=(64 // patch) ** 2,
        patch_size=patch,
        embed_dim=dims,
        decoder_embed_dim=96,
        decoder_depth=2,
        decoder_num_heads=3,
    ),
    head=dict(
        type='mmpretrain.MAEPretrainHead',
        norm_pix=True,
        patch_size=patch,
        loss=dict(type='mmpretrain.PixelReconstructionLoss', criterion='L2'),
    ),
    init_cfg=[
        dict(type='Xavier', layer='Linear', distribution='uniform'),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
    ],
)

# One view, cropped and flipped, as MAE has it. MultiCrop draws by the sample: a resumed run sees the same crops.
train_pipeline = [
    dict(type='LoadRGB'),
    dict(
        type='MultiCrop',
        global_crops=dict(size=64, scale=(0.2, 1.0), count=1),
        local_crops=dict(count=0),
        global_recipes=dict(jitter=0.0, gray=0.0, blur=0.0),
    ),
    dict(type='PackViews', single=True),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(optimizer=dict(betas=(0.9, 0.95), weight_decay=0.05))
