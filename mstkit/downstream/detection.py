"""Imported by mmdet's configs with ``custom_imports = dict(imports=['mstkit.downstream.detection'])``."""

# ruff: noqa: E402
from mstkit._dependencies import load

load(('mmdet.models', 'mmdet.datasets', 'mmdet.evaluation'), hide_mmdet=False)

from mmdet.models.dense_heads import rpn_head

if rpn_head.batched_nms.__module__ == rpn_head.__name__:  # mmdet's own, which only raises
    raise ImportError(
        'mmdet was imported before mmcv had its operators: put "import mstkit.downstream" at the top of the '
        'program, before mmdet, mmseg and mmpretrain (which imports mmdet), or start a tool by '
        '"python -m mstkit.toolbox".'
    )

from mstkit.downstream import anchors, coco_folder, coco_metric, roi_extractor

__all__ = ['anchors', 'coco_folder', 'coco_metric', 'roi_extractor']
