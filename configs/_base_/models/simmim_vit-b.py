# SimMIM with ViT-B/16 (arXiv 2111.09886, section 4.1; its code): BEiT's encoder, with LayerScale 0.1, a bias by
# relative position that all layers share, no absolute positions, and a class token. Its code decays [MASK].
data_preprocessor = dict(type='ViewDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])

model = dict(
    type='SimMIM',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='MaskedVisionTransformer',
        arch='base',
        img_size=224,
        patch_size=16,
        drop_path_rate=0.1,
        layer_scale_init_value=0.1,
        relative_positions='shared',
        positions='none',
        qkv_bias='qv_bias',
        initialization='beit',
    ),
    decoder=dict(type='LinearDecoder'),
    masker=dict(type='RandomMasker', ratio=0.6, rounding='up'),
    mask_patch_size=32,
    mask_token_decay=True,
)
