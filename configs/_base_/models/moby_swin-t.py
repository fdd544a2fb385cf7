# MoBY on Swin-T at 224 px. Swin has no class token: pooled is the mean of the last stage's tokens.
_base_ = './moby_deit-s.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='MaskedSwinTransformer',
        arch='tiny',
        img_size=224,
        drop_path_rate=0.2,
        attention_query='received',  # what would guide a masker
    ),
)
