# ResNet-18 for images of 64 px, with the preprocessing of the other small recipes: what mmpretrain's methods train.
model = dict(
    data_preprocessor=dict(
        type='mstkit.ViewDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    backbone=dict(type='mmpretrain.ResNet', depth=18, zero_init_residual=True),  # 512 channels
)
