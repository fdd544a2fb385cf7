"""Fine-tunes a small ViT of masked image modeling on your own folder, on the mean of the patches.

Command: python tools/train.py configs/downstream/mmpretrain/mae_vit-tiny_folder.py \
    --pretrained FILE --data-root DIR [--epochs N]
FILE is a checkpoint of a mae_, simmim_ or maskfeat_vit-tiny_folder.py, whose class token no loss has trained; BEiT's
has relative positions and wants beit_vit-tiny_folder.py. DIR has train/ and val/ with a folder per class.
docs/en/results_flowers.md has what it reached.
"""

_base_ = './vit-tiny_folder.py'

model = dict(
    backbone=dict(
        out_type='avg_featmap',
        final_norm=False,  # the mean has a norm of its own
    ),
)
