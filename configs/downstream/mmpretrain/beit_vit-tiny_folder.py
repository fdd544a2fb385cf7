"""Fine-tunes a small ViT with relative positions on your own folder, on the mean of the patches.

Command: python tools/train.py configs/downstream/mmpretrain/beit_vit-tiny_folder.py \
    --pretrained FILE --data-root DIR [--epochs N]
FILE is a checkpoint of configs/beit/beit_vit-tiny_folder.py. Each layer takes a copy of the table of relative
positions that all shared. DIR has train/ and val/ with a folder per class.
docs/en/results_flowers.md has what it reached.
"""

_base_ = './mae_vit-tiny_folder.py'

model = dict(
    backbone=dict(
        layer_scale_init_value=0.1,
        relative_positions='per_layer',
        positions='none',
        qkv_bias='qv_bias',
        initialization='beit',
    ),
)
optim_wrapper = dict(
    paramwise_cfg=dict(flat_decay_mult=0.0, custom_keys={'.relative_position_bias_table': dict(decay_mult=1.0)}),
)
