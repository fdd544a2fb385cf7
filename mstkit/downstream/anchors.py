"""Anchors in full precision under mixed precision."""

from __future__ import annotations

import torch
from mmdet.models.task_modules import AnchorGenerator
from torch import Tensor

from mstkit.registry import TASK_UTILS


@TASK_UTILS.register_module()
class FullPrecisionAnchorGenerator(AnchorGenerator):
    """mmdet's ``AnchorGenerator``, but never in half precision.

    For predictions, mmdet creates the anchors in the dtype of the scores. With AMP in bf16, coordinates of anchors and
    proposals from 512 px on are then rounded to multiples of 4 px; the loss uses float32 anchors.
    """

    def single_level_grid_priors(
        self, featmap_size: tuple[int, int], level_idx: int, dtype: torch.dtype = torch.float32, device: str = 'cuda'
    ) -> Tensor:
        """As mmdet's: (A * h * w, 4), x1, y1, x2, y2 in pixels; in float32 if ``dtype`` is a half precision."""
        exact = dtype if dtype == torch.float64 else torch.float32
        return super().single_level_grid_priors(featmap_size, level_idx, dtype=exact, device=device)
