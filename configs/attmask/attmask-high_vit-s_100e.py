"""AttMask-High in iBOT, ViT-S/16, 100 epochs of ImageNet-1k.

Command: bash tools/dist_train.sh configs/attmask/attmask-high_vit-s_100e.py 4 --auto-scale-lr
Published with AttMask's code (Kakogeorgiou et al., ECCV 2022): k-NN 72.5, linear 75.7. Not reproduced here.
"""

_base_ = './attmask-hint_vit-s_100e.py'

model = dict(masker=dict(_delete_=True, type='AttMaskHigh', ratio=(0.1, 0.5), image_prob=0.5))
