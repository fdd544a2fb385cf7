"""Anchors that keep their places under mixed precision."""

from __future__ import annotations

import torch
from mmdet.models.task_modules import AnchorGenerator
from torch import Tensor

from mstkit.registry import TASK_UTILS


@TASK_UTILS.register_module()
class FullPrecisionAnchorGenerator(AnchorGenerator):
    """mmdet's ``AnchorGenerator``, never in half precision.

    When it predicts, mmdet makes the anchors in the type of the scores. Under AMP in bf16 that rounds coordinates to 4
    px from 512 px on, and every proposal with them; the loss uses float32 anchors.
    """

    def single_level_grid_priors(
        self, featmap_size: tuple[int, int], level_idx: int, dtype: torch.dtype = torch.float32, device: str = 'cuda'
    ) -> Tensor:
        """As mmdet's: (A * h * w, 4), x1, y1, x2, y2 in pixels; ``dtype`` counts where it is no half precision."""
        exact = dtype if dtype == torch.float64 else torch.float32
        return super().single_level_grid_priors(featmap_size, level_idx, dtype=exact, device=device)
