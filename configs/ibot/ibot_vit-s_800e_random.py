"""iBOT, ViT-S/16, 800 epochs of ImageNet-1k, random masks.

Command: bash tools/dist_train.sh configs/ibot/ibot_vit-s_800e_random.py 16 --auto-scale-lr
Published with iBOT's code for ViT-B alone (k-NN 77.3, linear 79.8). Not reproduced here.
"""

_base_ = './ibot_vit-s_800e_block.py'

model = dict(masker=dict(_delete_=True, type='RandomMasker', ratio=(0.1, 0.5), image_prob=0.5))
