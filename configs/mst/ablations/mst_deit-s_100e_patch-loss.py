"""MST, DeiT-S, 100 epochs, with iBOT's loss on the hidden patches too, by a head of their own. No row of a paper.

Not reproduced here.
"""

_base_ = '../mst_deit-s_100e.py'

model = dict(patch_neck=dict(type='DINONeck', out_dim=8192), patch_head=dict(type='IBOTHead', teacher_temp=0.04))
