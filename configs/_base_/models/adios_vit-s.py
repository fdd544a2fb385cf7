# ADIOS with ViT-S/16 at 224 px (arXiv 2201.13100): what its SimCLR command for a ViT-Tiny at 96 px says of occlusion
# network and projector, with the U-Net of 6 resolutions that its code builds for 224 px.
data_preprocessor = dict(
    type='ViewDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], non_blocking=True
)

model = dict(
    type='ADIOS',
    data_preprocessor=data_preprocessor,
    backbone=dict(type='MaskedVisionTransformer', arch='deit-small', img_size=224, patch_size=16),
    # Its learning rate is 0.0334 where the encoder's is 0.1157.
    occlusion=dict(type='OcclusionUNet', masks=6, channels=16, blocks=6, bottleneck=7, lr_mult=0.3),
    hidden_dim=2048,
    out_dim=128,
    temperature=0.2,
    sparsity=0.89,
)
