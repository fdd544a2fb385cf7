"""MST table 4, DeiT-S, 100 epochs: no mask. Paper: linear 73.1. Not reproduced here."""

_base_ = '../mst_deit-s_100e.py'

model = dict(masker=None)
