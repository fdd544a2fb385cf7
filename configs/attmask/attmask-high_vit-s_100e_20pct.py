"""AttMask-High in iBOT, ViT-S/16, 100 epochs of a fifth of ImageNet-1k: the first 260 files of each class.

Command: bash tools/dist_train.sh configs/attmask/attmask-high_vit-s_100e_20pct.py 4 --auto-scale-lr
Published with AttMask's code (Kakogeorgiou et al., ECCV 2022): k-NN 49.7, linear 57.9. Not reproduced here.
"""

_base_ = './attmask-hint_vit-s_100e_20pct.py'

model = dict(masker=dict(_delete_=True, type='AttMaskHigh', ratio=(0.1, 0.5), image_prob=0.5))
