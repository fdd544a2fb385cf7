# What every training of keypoints has in common.
_base_ = './runtime.py'

default_scope = 'mstkit'
custom_imports = dict(imports=['mstkit.downstream.keypoints'], allow_failed_imports=False)

sync_bn = 'torch'  # the head's BatchNorm over all GPUs
visualizer = dict(type='Visualizer')
