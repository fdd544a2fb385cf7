"""MST, DeiT-S, 100 epochs: batch statistics of the crops of all views together, as DINO's head takes them.

The paper's table 6 has its own rule (each view by itself, running statistics from global views only; 73.9, the base
config) and none (73.1); this is the ordinary rule on MST. Not reproduced here.
"""

_base_ = '../mst_deit-s_100e.py'

model = dict(neck=dict(batch_norm='all'), decoder=dict(batch_norm='all'))
