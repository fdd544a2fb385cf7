"""What configs of mmdet import: ``custom_imports = dict(imports=['mstkit', 'mstkit.downstream.detection'])``."""

from mstkit.downstream import coco_folder, roi_extractor

__all__ = ['coco_folder', 'roi_extractor']
