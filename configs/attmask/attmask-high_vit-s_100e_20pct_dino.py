"""AttMask-High in DINO, without a patch loss, ViT-S/16, 100 epochs of a fifth of ImageNet-1k.

Command: bash tools/dist_train.sh configs/attmask/attmask-high_vit-s_100e_20pct_dino.py 4 --auto-scale-lr
AttMask's paper (Kakogeorgiou et al., ECCV 2022) compares masks in DINO in its table 3; a second-hand source has k-NN
43.5 there, which could not be checked. Not reproduced here.
"""

_base_ = './attmask-high_vit-s_100e_20pct.py'

model = dict(
    _delete_=True,
    type='DINO',
    data_preprocessor=_base_.model.data_preprocessor,
    backbone=_base_.model.backbone,
    neck=_base_.model.neck,
    head=_base_.model.head,
    teacher=_base_.model.teacher,
    masker=_base_.model.masker,
)
