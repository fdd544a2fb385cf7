"""MST table 6, 'Baseline' with batch normalization: no mask, no decoder. Paper: linear 71.6. Not reproduced here."""

_base_ = '../mst_deit-s_100e.py'

model = dict(masker=None, decoder=None, neck=dict(batch_norm='all'))
