"""MST, DeiT-S/16, 100 epochs of ImageNet-1k, read from tar shards instead of single files.

Command: bash tools/dist_train.sh configs/mst/mst_deit-s_100e_shards.py 16 --auto-scale-lr
Before it: python tools/make_shards.py --images data/imagenet/train --out data/imagenet_shards/train (and val likewise).
--data-root takes a folder or a URL. Everything else is mst_deit-s_100e.py, with the numbers of the paper's table 9.
Not reproduced here.
"""

_base_ = './mst_deit-s_100e.py'

shards = dict(type='ShardDataset', data_root='data/imagenet_shards')
train_dataloader = dict(dataset=shards, sampler=dict(type='ShardSampler'))
default_hooks = dict(knn=dict(train_dataset=shards, val_dataset=shards))
