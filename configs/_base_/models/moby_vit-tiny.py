# MoBY for small sets of small images: ViT-Tiny's width and half its depth at 64 px. A short queue, so that few of its
# keys are of the very image that is asked for, or older than the teacher's last few steps.
_base_ = './moby_deit-s.py'

small = dict(hid_channels=512, out_channels=128)
model = dict(
    backbone=dict(
        _delete_=True,
        type='MaskedVisionTransformer',
        arch=dict(embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768),
        img_size=64,
        patch_size=8,
    ),
    neck=small,
    predictor=small,
    head=dict(queue_size=256),  # eight batches of 32: a multiple of whatever batch size divides it
    teacher=dict(momentum=0.98),
)
