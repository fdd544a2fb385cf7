"""MST table 6, 'Baseline' without batch normalization: no mask, no decoder. Paper: linear 72.4. Not reproduced here."""

_base_ = '../mst_deit-s_100e.py'

model = dict(masker=None, decoder=None, neck=dict(batch_norm=None))
