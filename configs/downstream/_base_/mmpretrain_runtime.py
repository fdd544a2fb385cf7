# What every fine-tuning for classification has in common.
_base_ = './runtime.py'

default_scope = 'mstkit'
custom_imports = dict(imports=['mstkit.downstream'], allow_failed_imports=False)

default_hooks = dict(visualization=dict(type='VisualizationHook'))
visualizer = dict(type='UniversalVisualizer')
