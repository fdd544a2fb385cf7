# What every segmentation run has in common. Readable by mmseg's own tools too: custom_imports registers what is ours.
default_scope = 'mmseg'
custom_imports = dict(imports=['mstkit', 'mstkit.downstream.segmentation'], allow_failed_imports=False)

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=4000, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'),
    # tools/train.py --pretrained FILE sets the checkpoint; None trains from random weights.
    pretrained=dict(type='mstkit.PretrainedBackboneHook', checkpoint=None, branch='student'),
)
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
sync_bn = 'torch'  # the heads' BatchNorm over all GPUs
visualizer = dict(type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
log_processor = dict(by_epoch=False)
log_level = 'INFO'
randomness = dict(seed=0)
load_from = None
resume = False
