# What every segmentation run has in common.
_base_ = './runtime.py'

default_scope = 'mmseg'
custom_imports = dict(imports=['mstkit.downstream.segmentation'], allow_failed_imports=False)

default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=4000),
    visualization=dict(type='SegVisualizationHook'),
)
sync_bn = 'torch'  # the heads' BatchNorm over all GPUs
visualizer = dict(type='mstkit.ClassNameVisualizer')
log_processor = dict(by_epoch=False)
