"""MST table 6, DeiT-S, 100 epochs: no batch normalization in head and decoder. Paper: linear 73.1.

Not reproduced here.
"""

_base_ = '../mst_deit-s_100e.py'

model = dict(neck=dict(batch_norm=None), decoder=dict(batch_norm=False))
