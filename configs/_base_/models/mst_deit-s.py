# MST on DeiT-S/16 at 224 px (arXiv 2106.05656, sections 3 and 4.1). Where the paper is silent the values are DINO's or
# this project's choice: docs/en/conventions.md lists them.
_base_ = './dino_vit-s.py'

model = dict(
    type='MSTAlgorithm',
    neck=dict(batch_norm='global_only'),
    masker=dict(type='AttentionGuidedMasker', num=8, prob=0.10),
    decoder=dict(type='CNNImageDecoder', channels=256, batch_norm=True),
    loss_weight_ce=1.0,
    loss_weight_restore=0.6,
)
