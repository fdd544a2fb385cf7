"""MST, DeiT-S, 100 epochs, without the image decoder (section 3.3). No row of the paper. Not reproduced here."""

_base_ = '../mst_deit-s_100e.py'

model = dict(decoder=None)
