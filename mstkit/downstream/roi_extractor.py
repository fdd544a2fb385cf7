"""RoI pooling with coordinates in full precision."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor

from mstkit.registry import MODELS


@MODELS.register_module()
class FullPrecisionRoIExtractor(SingleRoIExtractor):
    """mmdet's ``SingleRoIExtractor``, but without rounding the regions under mixed precision.

    mmdet converts the regions to the dtype of the features. In bfloat16, with 8 significant bits, coordinates from 512
    px on are rounded to multiples of 4, and from 1024 px on of 8; float16 rounds to 0.5 and 1 px there. Here features
    are pooled in float32, and the result is converted to their dtype. Arguments as in mmdet.
    """

    def forward(self, feats: Sequence[Tensor], rois: Tensor, roi_scale_factor: float | None = None) -> Tensor:
        """Pools each region from the level that fits its size.

        Args:
            feats: (B, C, H, W) per level, all of one dtype.
            rois: (M, 5), index of the image and x1, y1, x2, y2 in pixels; at least float32.
            roi_scale_factor: enlarges the regions about their centers.

        Returns:
            (M, C, h, w) of the features' dtype.
        """
        kind = feats[0].dtype
        full = torch.promote_types(kind, torch.float32)
        with torch.autocast(feats[0].device.type, enabled=False):
            pooled = super().forward(tuple(level.to(full) for level in feats), rois.to(full), roi_scale_factor)
        return pooled.to(kind)
