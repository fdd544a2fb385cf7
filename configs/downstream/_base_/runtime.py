# What every downstream run has in common. In the three files that build on this, custom_imports registers what is ours,
# so that mmdet's and mmseg's own tools can read them too.
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='mstkit.AtomicCheckpointHook', interval=1, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    # Stops a run that diverges before NaN reaches a checkpoint; None switches it off.
    non_finite=dict(type='mstkit.NonFiniteLossHook'),
    # Names and counts the images that cannot be read and were replaced, and stops where they are too many.
    unreadable=dict(type='mstkit.UnreadableImageHook'),
    # tools/train.py --pretrained FILE sets the checkpoint; None trains from random weights.
    pretrained=dict(type='mstkit.PretrainedBackboneHook', checkpoint=None, branch='student'),
)
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
visualizer = dict(vis_backends=[dict(type='LocalVisBackend')])
log_level = 'INFO'
randomness = dict(seed=0)
load_from = None
resume = False
