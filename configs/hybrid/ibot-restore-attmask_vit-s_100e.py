"""A hybrid of three papers, ViT-S/16, 100 epochs of ImageNet-1k: iBOT's two losses, MST's restoration, AttMask's mask.

Command: bash tools/dist_train.sh configs/hybrid/ibot-restore-attmask_vit-s_100e.py 4 --auto-scale-lr
(4 processes x 60 images = AttMask's batch of 240)
A composition of this project, published nowhere, and not trained: there is no number that could be reproduced here.
"""

_base_ = '../attmask/attmask-high_vit-s_100e.py'

model = dict(
    decoder=dict(type='CNNImageDecoder', channels=256, batch_norm=True),  # MST's, of the whole image
    loss_weight_restore=0.6,
)
