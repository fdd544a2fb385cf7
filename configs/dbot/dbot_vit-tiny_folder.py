"""dBOT on your own folder of images, hundreds to tens of thousands of them, with or without classes; one stage.

Command: python tools/train.py configs/dbot/dbot_vit-tiny_folder.py --data-root DIR [--epochs N]
Second stage: the same with --work-dir ANOTHER --cfg-options model.target.source=FILE.pth, a checkpoint of the first.
k-NN says little of its features, which want a linear probe or fine-tuning. No row of a paper.
configs/mst/mst_vit-tiny_folder.py says what DIR holds. Not reproduced here.
"""

_base_ = [
    '../_base_/models/dbot_vit-tiny.py',
    '../_base_/datasets/folder_one_view.py',
    '../_base_/schedules/mim_folder.py',
]
