# CMAE for small sets of small images: ViT-Tiny's width and half its depth at 64 px, decoders of two layers and one, and
# a teacher that follows within tens of steps.
_base_ = './cmae_vit-b.py'

mlp = dict(hid_channels=512, out_channels=128)
model = dict(
    backbone=dict(
        _delete_=True,
        type='MaskedVisionTransformer',
        arch=dict(embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768),
        img_size=64,
        patch_size=8,
    ),
    decoder=dict(embed_dims=96, num_layers=2, num_heads=3),
    feature_decoder=dict(embed_dims=96, num_layers=1, num_heads=3),
    neck=mlp,
    predictor=mlp,
    mask_patch_size=None,
    teacher=dict(momentum=0.98, end_momentum=1.0),
)
