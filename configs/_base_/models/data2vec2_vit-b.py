# data2vec 2.0 with ViT-B/16 (arXiv 2212.07525 and the config of its code): squares of 3x3 patches visible, a fifth of
# the image, under 16 masks for one pass of the teacher; 6 convolutions; the mean of 10 of the teacher's 12 layers.
data_preprocessor = dict(type='ViewDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])

model = dict(
    type='Data2Vec2',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='MaskedVisionTransformer',
        arch='base',
        img_size=224,
        patch_size=16,
        positions='sincos',
        initialization='trunc_normal',
    ),
    decoder=dict(type='ConvDecoder', embed_dims=768, num_layers=6, kernel_size=3, groups=16),
    target=dict(type='TeacherLayers', top=10, norm='instance', norm_mean=True),
    loss='mse',
    # The square root of the channels: the code divides the sum of their squared errors by it. Clipping sees it.
    loss_weight_predict=27.7,
    masker=dict(type='InverseMultiBlockMasker', ratio=0.8, block=3, adjust=0.07),
    teacher=dict(type='MomentumTeacher', schedule=((0.0, 0.9998), (0.2665, 0.99999))),
    masks_per_image=16,
)
