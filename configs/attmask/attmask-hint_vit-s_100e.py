"""AttMask-Hint in iBOT, ViT-S/16, 100 epochs of ImageNet-1k.

Command: bash tools/dist_train.sh configs/attmask/attmask-hint_vit-s_100e.py 4 --auto-scale-lr
(4 processes x 60 images = AttMask's batch of 240)
Published with AttMask's code (Kakogeorgiou et al., ECCV 2022): k-NN 72.8, linear 76.1. Not reproduced here.
"""

_base_ = [
    '../_base_/models/ibot_vit-s.py',
    '../_base_/datasets/imagenet_multicrop10.py',
    '../_base_/schedules/adamw_cosine_100e.py',
]

model = dict(masker=dict(_delete_=True, type='AttMaskHint', ratio=(0.1, 0.5), image_prob=0.5, show_max=0.1))
train_dataloader = dict(batch_size=60)
