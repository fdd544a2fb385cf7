# BootMAE with ViT-B/16 (arXiv 2207.07116 and its code): three quarters hidden, 120 patches in blocks of 16 to 60 and 27
# others at random; pixels normalized per channel of a patch and the teacher's last block predicted by a decoder of 2
# layers each, which attend to the first and to the last block; momentum 0.999, 0.9999 after 100 of 800 epochs and
# 0.99999 after 400.
data_preprocessor = dict(type='ViewDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])

model = dict(
    type='BootMAE',
    data_preprocessor=data_preprocessor,
    backbone=dict(type='MaskedVisionTransformer', arch='base', img_size=224, patch_size=16),
    decoder=dict(type='CrossAttentionDecoder', attends_to=1, embed_dims=512, num_layers=2, num_heads=12),
    feature_decoder=dict(type='CrossAttentionDecoder', attends_to=-1, num_layers=2, num_heads=12),
    masker=dict(type='BlockMasker', ratio=0.75, image_prob=1.0, min_block=16, max_block=60, scattered=0.184),
    teacher=dict(type='MomentumTeacher', schedule=[(0.0, 0.999), (0.125, 0.9999), (0.5, 0.99999)]),
)
