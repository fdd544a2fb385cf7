# What every detection run has in common.
_base_ = './runtime.py'

default_scope = 'mmdet'
custom_imports = dict(imports=['mstkit.downstream.detection'], allow_failed_imports=False)

default_hooks = dict(visualization=dict(type='DetVisualizationHook'))
env_cfg = dict(cudnn_benchmark=False)  # images differ in size
visualizer = dict(type='DetLocalVisualizer')
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)
