"""Fine-tunes SimMIM's Swin-B on ImageNet at 224 px for 100 epochs.

Command: bash tools/dist_train.sh configs/downstream/mmpretrain/simmim_swin-b_100e_imagenet.py 8 \
    --pretrained FILE --data-root DIR
FILE is a checkpoint of configs/simmim/simmim_swin-b_100e.py, whose windows of 6 become 7, or SimMIM's own. 1.25e-3 per
512 images, which is 5e-3 at its batch of 2048, decay 0.9 per layer, 20 epochs of warm-up under timm's cosine. Paper:
SimMIM (arXiv 2111.09886), 83.5. Not reproduced here.
"""

_base_ = './swin-t_100e_imagenet.py'

model = dict(backbone=dict(arch='base'), head=dict(in_channels=1024))
