"""The hybrid of iBOT, MST's restoration and AttMask on your own folder of images, with or without classes.

Command: python tools/train.py configs/hybrid/ibot-restore-attmask_vit-tiny_folder.py --data-root DIR [--epochs N]
No row of a paper. configs/mst/mst_vit-tiny_folder.py says what DIR holds. Not reproduced here.
"""

_base_ = '../attmask/attmask-high_vit-tiny_folder.py'

model = dict(decoder=dict(type='CNNImageDecoder', channels=16), loss_weight_restore=0.6)
