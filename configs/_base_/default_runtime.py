# What every pre-training run has in common: logging, checkpoints that survive a kill, monitors, and the seed.
# mstkit/engine/launch/launch.py adds TensorBoard where it is installed, and the communication backend of the device.
default_scope = 'mstkit'
runner_type = 'MSTRunner'

default_hooks = dict(
    runtime_info=dict(type='StepInfoHook'),
    timer=dict(type='IterTimerHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='StepParamSchedulerHook'),
    checkpoint=dict(type='AtomicCheckpointHook', interval=1, max_keep_ckpts=2),
    # Stops a run that diverges before NaN reaches a checkpoint; None switches it off.
    non_finite=dict(type='NonFiniteLossHook'),
)

custom_hooks = [
    dict(type='ProgressHook'),
    dict(type='CollapseMonitorHook'),
    dict(type='UnreadableImageHook'),
]

env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
)
sync_bn = 'torch'  # BatchNorm over all GPUs; CPU processes cannot, and the log says so

visualizer = dict(type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
log_level = 'INFO'
log_processor = dict(type='LogProcessor', window_size=10)

randomness = dict(seed=0, deterministic=False)
load_from = None
resume = False
