"""SimMIM, Swin-T at 192 px, 100 epochs of ImageNet-1k, otherwise as Swin-B.

Command: bash tools/dist_train.sh configs/simmim/simmim_swin-t_100e.py 8 --auto-scale-lr
(SimMIM's batch is 2048, for example 32 processes x 64 images; --auto-scale-lr fits the lr to any other)
The paper has no such row. Not reproduced here.
"""

_base_ = './simmim_swin-b_100e.py'

model = dict(backbone=dict(arch='tiny'))
