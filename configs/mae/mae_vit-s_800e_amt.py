"""MAE with AMT's masking and throwing, ViT-S/16, 800 epochs of ImageNet-1k.

Command: bash tools/dist_train.sh configs/mae/mae_vit-s_800e_amt.py 8 --auto-scale-lr
(MAE's batch is 4096, for example 64 processes x 64 images; --auto-scale-lr fits the lr to any other)
40 epochs as MAE; then patches are drawn in proportion to the class token's attention, 45 % hidden, 40 % thrown. Scores
of whole images are made anew every 40 epochs. AMT's code scales each head's attention to 0..1, which is not done here.
Paper: AMT (arXiv 2211.15362). Not reproduced here.
"""

_base_ = './mae_vit-s_800e.py'

model = dict(
    masker=dict(
        _delete_=True,
        type='MaskerSchedule',
        phases=[
            (0, dict(type='RandomMasker', ratio=0.75, rounding='up')),
            (40, dict(type='ThrowingMasker', ratio=0.45, throw=0.40)),
        ],
    ),
    guide=dict(type='CachedGuide', every=40, score='class_token'),
)
