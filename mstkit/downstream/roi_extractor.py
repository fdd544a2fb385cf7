"""Pooling of regions with their coordinates in full precision."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor

from mstkit.registry import MODELS


@MODELS.register_module()
class FullPrecisionRoIExtractor(SingleRoIExtractor):
    """mmdet's extractor, which under mixed precision would round the regions.

    mmdet gives the regions the type of the features. bfloat16 has 8 significant bits, so that coordinates from 512 px
    on are rounded to multiples of 4, and from 1024 px on of 8; float16 rounds to halves and to whole pixels there.
    Here features are pooled in float32, and the result has their type again. Arguments as in mmdet.
    """

    def forward(self, feats: Sequence[Tensor], rois: Tensor, roi_scale_factor: float | None = None) -> Tensor:
        """Pools each region from the level that fits its size.

        Args:
            feats: (B, C, H, W) per level, all of one type.
            rois: (M, 5), index of the image and x1, y1, x2, y2 in pixels; at least float32.
            roi_scale_factor: enlarges the regions about their centers.

        Returns:
            (M, C, h, w) of the features' type.
        """
        kind = feats[0].dtype
        full = torch.promote_types(kind, torch.float32)
        with torch.autocast(feats[0].device.type, enabled=False):
            pooled = super().forward(tuple(level.to(full) for level in feats), rois.to(full), roi_scale_factor)
        return pooled.to(kind)
