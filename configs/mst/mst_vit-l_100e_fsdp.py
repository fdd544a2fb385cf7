"""MST, ViT-L/16, 100 epochs of ImageNet-1k, with weights, gradients and optimizer state spread over all processes.

Command: bash tools/dist_train.sh configs/mst/mst_vit-l_100e_fsdp.py 32 --auto-scale-lr \
    --cfg-options train_dataloader.batch_size=32
Its checkpoints are folders; python tools/consolidate.py FOLDER makes a file of one. See docs/en/scaling.md.
The paper has no ViT-L. Not reproduced here.
"""

_base_ = './mst_deit-s_100e.py'

model = dict(backbone=dict(arch='large'))
model_wrapper_cfg = dict(type='FullyShard')
