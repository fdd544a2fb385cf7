# iBOT for small sets of small images, block masks.
_base_ = './dino_vit-tiny.py'

model = dict(
    type='IBOT',
    patch_head=dict(type='IBOTHead', teacher_temp=0.03),
    masker=dict(type='BlockMasker', ratio=(0.1, 0.5), image_prob=0.5),
)
