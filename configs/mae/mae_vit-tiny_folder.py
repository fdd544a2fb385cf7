"""MAE on your own folder of images, hundreds to tens of thousands of them, with or without classes.

Command: python tools/train.py configs/mae/mae_vit-tiny_folder.py --data-root DIR [--epochs N]
No row of a paper; docs/en/results_recipes.md has the search of its optimizer.
configs/mst/mst_vit-tiny_folder.py says what DIR holds. Not reproduced here.
"""

_base_ = [
    '../_base_/models/mae_vit-tiny.py',
    '../_base_/datasets/folder_one_view.py',
    '../_base_/schedules/mim_muon_folder.py',
]
