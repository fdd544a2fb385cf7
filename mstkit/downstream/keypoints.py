"""Imported by configs for keypoints with ``custom_imports = dict(imports=['mstkit.downstream.keypoints'])``."""

from mstkit.downstream import heatmap_head, keypoint_estimator, keypoint_folder, keypoint_metric, keypoint_transforms

__all__ = ['heatmap_head', 'keypoint_estimator', 'keypoint_folder', 'keypoint_metric', 'keypoint_transforms']
