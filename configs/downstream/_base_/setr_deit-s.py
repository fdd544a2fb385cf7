# SETR's common part with DeiT-S: mmpretrain's ViT, because mmseg's drops the patch embedding's bias and reads other
# names.
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(768, 768),
    ),
    backbone=dict(
        type='mstkit.MaskedVisionTransformer',
        arch='deit-small',
        img_size=768,
        patch_size=16,
        out_type='featmap',
        final_norm=False,  # the heads have their own
        interpolate_mode='bilinear',
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=(768, 768), stride=(512, 512)),
)
