"""mmpretrain's MoCoV3 (Chen et al., ICCV 2021) on your own folder of images, with our hooks.

Command: python tools/train.py configs/mmpretrain/mocov3_vit-tiny_folder.py --data-root DIR [--epochs N]
configs/mst/mst_vit-tiny_folder.py says what DIR holds. No row of a paper: nothing of one is reproduced here.
"""

_base_ = ['../_base_/datasets/folder_two_views.py', '../_base_/schedules/adamw_cosine_folder.py']

dims, temperature = 192, 0.2
mlp = dict(
    type='mmpretrain.NonLinearNeck',
    hid_channels=512,
    out_channels=128,
    with_bias=False,
    with_last_bn=True,
    with_last_bn_affine=False,
    with_last_bias=False,
    with_avg_pool=False,
)

model = dict(
    type='mmpretrain.MoCoV3',
    base_momentum=0.02,  # what of the student comes in: the momentum is 0.98 at first, as in the other small recipes
    data_preprocessor=dict(
        type='mstkit.ViewDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    backbone=dict(
        type='mmpretrain.MoCoV3ViT',
        arch=dict(embed_dims=dims, num_layers=6, num_heads=3, feedforward_channels=768),
        img_size=64,
        patch_size=8,
        stop_grad_conv1=True,
    ),
    neck=dict(mlp, in_channels=dims, num_layers=3),
    head=dict(
        type='mmpretrain.MoCoV3Head',
        predictor=dict(mlp, in_channels=128, num_layers=2),
        loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=2 * temperature),
        temperature=temperature,
    ),
)
