"""MAE with AutoMAE's generated masks on your own folder of images, hundreds to tens of thousands of them.

Command: python tools/train.py configs/mae/mae-automae_vit-tiny_folder.py --data-root DIR [--epochs N]
k-NN says little of MAE's features, which want a linear probe or fine-tuning. No row of a paper.
configs/mst/mst_vit-tiny_folder.py says what DIR holds. Not reproduced here.
"""

_base_ = './mae_vit-tiny_folder.py'

model = dict(
    masker=dict(_delete_=True, type='PreferenceMasker', ratio=0.75, preference=0.5),
    guide=dict(type='generated', source='ema'),
    objectives=dict(generate=dict(type='MaskGeneration', adversarial=0.2, strength=0.5)),
)
