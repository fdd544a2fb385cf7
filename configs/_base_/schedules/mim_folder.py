# AdamW for masked image modeling on small sets: MAE's betas and decay, three epochs of warm-up, a cosine to the end.
_base_ = './adamw_cosine_folder.py'

optim_wrapper = dict(
    optimizer=dict(lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05),
    clip_norm=None,
)
auto_scale_lr = dict(base_batch_size=64, enable=False)
