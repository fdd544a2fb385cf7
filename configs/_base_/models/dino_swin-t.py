# DINO on Swin-T at 224 px. Swin has no class token: pooled is the mean of the last stage's tokens, and what guides a
# masker is the attention that each of them receives, on a 7x7 grid (docs/en/conventions.md).
_base_ = './dino_vit-s.py'

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
