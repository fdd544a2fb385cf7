"""BEiT on your own folder of images, hundreds to tens of thousands of them, with or without classes.

Command: python tools/train.py configs/beit/beit_vit-tiny_folder.py --data-root DIR [--epochs N]
Its tokens are made before, of the same images, by the raw patches or by the features of a network FILE.pth, with 512
codes: python tools/train_tokenizer.py --data-root DIR --network raw --codes 512 --out work_dirs/tokenizer.pth
(another file by --cfg-options model.tokenizer=FILE). k-NN says little of BEiT's features, which want a linear probe or
fine-tuning. No row of a paper. configs/mst/mst_vit-tiny_folder.py says what DIR holds. Not reproduced here.
"""

_base_ = [
    '../_base_/models/beit_vit-tiny.py',
    '../_base_/datasets/folder_one_view.py',
    '../_base_/schedules/mim_folder.py',
]
