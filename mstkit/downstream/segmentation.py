"""Imported by mmseg's configs with ``custom_imports = dict(imports=['mstkit.downstream.segmentation'])``."""

# ruff: noqa: E402
from mstkit._dependencies import load

load(('mmseg.models', 'mmseg.datasets'), hide_mmdet=False)

from mstkit.downstream import (
    depth_folder,
    depth_head,
    depth_metric,
    depth_transforms,
    label_checks,
    label_maps,
    mla_head,
    seg_visualizer,
)

__all__ = [
    'depth_folder',
    'depth_head',
    'depth_metric',
    'depth_transforms',
    'label_checks',
    'label_maps',
    'mla_head',
    'seg_visualizer',
]
