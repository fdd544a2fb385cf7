"""MST on your own folder of images, hundreds to tens of thousands of them, with or without classes.

Command: python tools/train.py configs/mst/mst_vit-tiny_folder.py --data-root DIR [--epochs N]
DIR holds images in any depth, or train/ and val/ with a folder per class: then k-NN accuracy is measured on the way.
A network of ViT-Tiny's width and half its depth at 64 px. No row of a paper;
docs/en/results_recipes.md has the search for it, docs/en/results_flowers.md what an earlier recipe reached.
"""

_base_ = [
    '../_base_/models/dino_vit-tiny.py',
    '../_base_/datasets/folder_small_crops.py',
    '../_base_/schedules/muon_cosine_folder.py',
]

model = dict(
    type='MSTAlgorithm',
    masker=dict(type='AttentionGuidedMasker', num=8, prob=0.10),
    decoder=dict(type='CNNImageDecoder', channels=16),
)
