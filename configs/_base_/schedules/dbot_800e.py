# dBOT's optimizer and schedule for ViT-B (the command of its code): as MAE's, with gradients clipped at a norm of 3.
_base_ = './mae_800e.py'

optim_wrapper = dict(clip_norm=3.0, clip_mode='global')
