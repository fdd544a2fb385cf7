"""MoBY on your own folder of images, hundreds to tens of thousands of them, with or without classes.

Command: python tools/train.py configs/moby/moby_vit-tiny_folder.py --data-root DIR [--epochs N]
The batch size has to divide model.head.queue_size. From thousands of images on, a longer queue is worth a try.
No row of a paper. configs/mst/mst_vit-tiny_folder.py says what DIR holds. Not reproduced here.
"""

_base_ = [
    '../_base_/models/moby_vit-tiny.py',
    '../_base_/datasets/folder_two_views.py',
    '../_base_/schedules/adamw_cosine_folder.py',
]

optim_wrapper = dict(clip_norm=5.0, clip_mode='global')
