# BEiT with ViT-B/16 (arXiv 2106.08254): blocks of 75 of 196 patches hidden, their tokens predicted; no absolute
# positions but relative ones that all layers share, LayerScale, stochastic depth of 0.1.
data_preprocessor = dict(type='ViewDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])

model = dict(
    type='BEiT',
    data_preprocessor=data_preprocessor,
    tokenizer='work_dirs/tokenizer.pth',
    backbone=dict(
        type='MaskedVisionTransformer',
        arch='base',
        img_size=224,
        patch_size=16,
        drop_path_rate=0.1,
        positions='none',
        relative_positions='shared',
        qkv_bias='qv_bias',
        layer_scale_init_value=0.1,
        initialization='beit',
    ),
    decoder=dict(type='LinearDecoder', init_std=0.02),
    masker=dict(type='BlockMasker', ratio=0.383, image_prob=1.0, min_block=16),
)
