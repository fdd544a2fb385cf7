"""CL-MAE on your own folder of images, hundreds to tens of thousands of them, with or without classes.

Command: python tools/train.py configs/cl_mae/cl_mae_vit-tiny_folder.py --data-root DIR [--epochs N]
k-NN says little of MAE's features, which want a linear probe or fine-tuning. No row of a paper.
configs/mst/mst_vit-tiny_folder.py says what DIR holds. Not reproduced here.
"""

_base_ = [
    '../_base_/models/cl_mae_vit-tiny.py',
    '../_base_/datasets/folder_one_view.py',
    '../_base_/schedules/mim_folder.py',
]
