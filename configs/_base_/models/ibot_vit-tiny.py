# iBOT for small sets of small images, block masks.
_base_ = './dino_vit-tiny.py'

model = dict(
    type='IBOT',
    # Batch normalization does not fit tokens of patches, so they have a projection of their own.
    patch_neck=dict(type='DINONeck', out_dim=1024, hidden_dim=512, bottleneck_dim=128),
    patch_head=dict(type='IBOTHead', teacher_temp=0.03),
    masker=dict(type='BlockMasker', ratio=(0.1, 0.5), image_prob=0.5),
)
