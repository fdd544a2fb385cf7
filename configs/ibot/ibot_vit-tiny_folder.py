"""iBOT on your own folder of images, hundreds to tens of thousands of them, with or without classes.

Command: python tools/train.py configs/ibot/ibot_vit-tiny_folder.py --data-root DIR [--epochs N]
No row of a paper. configs/mst/mst_vit-tiny_folder.py says what DIR holds. Not reproduced here.
"""

_base_ = [
    '../_base_/models/ibot_vit-tiny.py',
    '../_base_/datasets/folder_small_crops.py',
    '../_base_/schedules/muon_cosine_folder.py',
]

fitted = dict(prototypes=['model.neck.out_dim', 'model.patch_neck.out_dim'])
