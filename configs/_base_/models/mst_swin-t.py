# MST on Swin-T at 224 px. Swin has no class token and the paper does not say what guides its mask: here it is the
# attention that each token of the last stage receives, on its 7x7 grid (docs/en/conventions.md).
_base_ = './mst_deit-s.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='MaskedSwinTransformer',
        arch='tiny',
        img_size=224,
        drop_path_rate=0.1,
        attention_query='received',
    ),
)
