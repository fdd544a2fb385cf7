"""BEiT, ViT-S/16, 300 epochs of ImageNet-1k; the paper has no such row, its settings for ViT-B are taken.

Command: bash tools/dist_train.sh configs/beit/beit_vit-s_300e.py 8 --auto-scale-lr --cfg-options model.tokenizer=FILE
(a batch of 2048, for example 32 processes x 64 images; --auto-scale-lr fits the lr to any other)
No row of a paper. Not reproduced here.
"""

_base_ = './beit_vit-b_300e.py'

model = dict(backbone=dict(arch='deit-small'))
