"""Fine-tunes DeiT-S on ImageNet for 100 epochs, with layer-wise decay of the learning rate.

Command: bash tools/dist_train.sh configs/downstream/mmpretrain/deit-s_100e_imagenet.py 8 \
    --pretrained FILE --data-root DIR
No row of MST's tables, which probe linearly. The recipe is MAE's (its appendix A.2), with the layer decay of that
paper; its learning rate, 5e-4 per 256 images, belongs to a batch of 1024. Not reproduced here.
"""

_base_ = ['../_base_/classify_224.py', '../_base_/mmpretrain_runtime.py']

model = dict(
    backbone=dict(
        type='mstkit.MaskedVisionTransformer', arch='deit-small', img_size=224, patch_size=16, drop_path_rate=0.1
    ),
    head=dict(in_channels=384),
)
