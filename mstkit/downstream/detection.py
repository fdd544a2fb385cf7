"""What configs of mmdet import: ``custom_imports = dict(imports=['mstkit', 'mstkit.downstream.detection'])``."""

# ruff: noqa: E402
from mstkit._dependencies import load

load(('mmdet.models', 'mmdet.datasets', 'mmdet.evaluation'), hide_mmdet=False)

from mstkit.downstream import anchors, coco_folder, coco_metric, roi_extractor

__all__ = ['anchors', 'coco_folder', 'coco_metric', 'roi_extractor']
