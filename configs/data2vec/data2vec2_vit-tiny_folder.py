"""data2vec 2.0 on your own folder of images, hundreds to tens of thousands of them, with or without classes.

Command: python tools/train.py configs/data2vec/data2vec2_vit-tiny_folder.py --data-root DIR [--epochs N]
Four masks of each image for one pass of the teacher; model.masks_per_image says how many.
k-NN says little of data2vec's features, which want a linear probe or fine-tuning. No row of a paper.
configs/mst/mst_vit-tiny_folder.py says what DIR holds. Not reproduced here.
"""

_base_ = [
    '../_base_/models/data2vec2_vit-tiny.py',
    '../_base_/datasets/folder_one_view.py',
    '../_base_/schedules/mim_folder.py',
]
