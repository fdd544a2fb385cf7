"""dBOT, ViT-B/16, one stage of 800 epochs of ImageNet-1k; the paper has two.

Command: bash tools/dist_train.sh configs/dbot/dbot_vit-b_800e.py 8 --auto-scale-lr
Second stage: the same with --work-dir ANOTHER --cfg-options model.target.source=work_dirs/dbot_vit-b_800e/epoch_800.pth
(dBOT's batch is 4096, for example 64 processes x 64 images; --auto-scale-lr fits the lr to any other)
Paper: dBOT (arXiv 2209.03917), two stages of 800 epochs, fine-tuned 84.5. Not reproduced here.
"""

_base_ = [
    '../_base_/models/dbot_vit-b.py',
    '../_base_/datasets/imagenet_one_view.py',
    '../_base_/schedules/dbot_800e.py',
]
