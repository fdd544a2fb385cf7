"""iBOT with MST's image decoder, ViT-S/16, 800 epochs of ImageNet-1k, block masks. No row of a paper.

Command: bash tools/dist_train.sh configs/ibot/ibot_vit-s_800e_block_decoder.py 16 --auto-scale-lr
Not reproduced here.
"""

_base_ = './ibot_vit-s_800e_block.py'

model = dict(decoder=dict(type='CNNImageDecoder', channels=256, batch_norm=True), loss_weight_restore=0.6)
