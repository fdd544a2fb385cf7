# iBOT on Swin-T (window 7) at 224 px: masks on the 7x7 grid of the last stage, from epoch 50 on.
_base_ = ['./ibot_vit-s.py']

norm_cfg = dict(type='LN', eps=1e-6)  # iBOT's; mmpretrain's Swin has 1e-5
model = dict(
    backbone=dict(
        _delete_=True,
        type='MaskedSwinTransformer',
        arch='tiny',
        img_size=224,
        drop_path_rate=0.1,
        attention_query='received',
        shift_by='img_size',  # as in iBOT's code, where local crops are shifted wherever global ones are
        norm_cfg=norm_cfg,
        patch_cfg=dict(norm_cfg=norm_cfg),
        stage_cfgs=dict(block_cfgs=dict(norm_cfg=norm_cfg), downsample_cfg=dict(norm_cfg=norm_cfg)),
    ),
    masker=dict(
        _delete_=True,
        type='MaskerSchedule',
        phases=[(0, None), (50, dict(type='BlockMasker', ratio=(0.1, 0.5), image_prob=0.5))],
    ),
    patch_head=dict(start_epoch=50),
)
