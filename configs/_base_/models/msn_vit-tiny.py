# MSN for small sets of small images: ViT-Tiny's width and half its depth at 64 px. As many prototypes as a batch of 32
# can use, and a teacher that follows within tens of steps.
_base_ = './msn_vit-s.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='MaskedVisionTransformer',
        arch=dict(embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768),
        img_size=64,
        patch_size=8,
    ),
    neck=dict(out_dim=128, hidden_dim=512, bottleneck_dim=128),
    teacher=dict(momentum=0.98),
)
