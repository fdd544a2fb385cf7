"""One block stays visible (CAPI)."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from mstkit.models.maskers.masking_ratio import ROUNDING, Ratio
from mstkit.models.maskers.ratio_masker import RatioMasker
from mstkit.registry import MODELS
from mstkit.structures import MaskContext
from mstkit.utils.checks import check_range


@MODELS.register_module()
class InverseBlockMasker(RatioMasker):
    """Hides all but one block of patches, which is rolled around the edges of the grid.

    The inverse block masks of CAPI (Darcet et al., arXiv 2502.08769): V patches stay visible. The block has ceil(sqrt(V
    a)) rows and ceil(sqrt(V / a)) columns, and only its first V patches, row by row, are visible, so its last row may
    be shorter. As in CAPI the bounds of a are narrowed to blocks that fit the grid.

    The mask is rolled: shifted cyclically along both axes by any distance, so a block may leave the grid at one edge
    and come in at the opposite one. Every patch is then visible equally often. Otherwise the middle would be visible
    more often than the edges, and the last patch never, where the last row of every block is cut.

    Args:
        ratio: share of the patches to hide, or the range from which it is drawn for each image.
        image_prob: probability that an image is masked.
        aspect: lowest and highest ratio a of the block's height to its width, drawn uniformly on a logarithmic scale.

    Raises:
        UsageError: a ratio or a probability outside [0, 1], a range with the larger number first, an aspect that is
            not positive.
    """

    def __init__(
        self,
        ratio: Ratio = 0.65,
        image_prob: float = 1.0,
        aspect: tuple[float, float] = (0.5, 2.0),
    ) -> None:
        super().__init__(ratio, image_prob)
        self.aspect = check_range('InverseBlockMasker.aspect', aspect, above=0)

    def choose(self, context: MaskContext, counts: Tensor, generator: Generator) -> Tensor:
        """See :meth:`RatioMasker.choose`."""
        (height, width), device = context.grid, context.device
        visible = height * width - counts
        tall, wide = self._sides(visible.clamp_min(1), context.grid, generator)
        # A block anywhere, rolled by any distance, is a block whose corner is any patch of the grid.
        top = torch.randint(height, (len(counts), 1), generator=generator, device=device)
        left = torch.randint(width, (len(counts), 1), generator=generator, device=device)
        # Rows and columns of each patch, counted from the corner of the block: (B, h, 1) and (B, 1, w).
        rows = (torch.arange(height, device=device) - top).remainder(height).unsqueeze(2)
        columns = (torch.arange(width, device=device) - left).remainder(width).unsqueeze(1)
        tall, wide, visible = (side.unsqueeze(2) for side in (tall, wide, visible))
        shown = (rows < tall) & (columns < wide) & (rows * wide + columns < visible)
        return ~shown.flatten(1)

    def _sides(self, area: Tensor, grid: tuple[int, int], generator: Generator) -> tuple[Tensor, Tensor]:
        """Rows and columns of a block that holds ``area`` patches and fits the grid: (B, 1) int64 each."""
        height, width = grid
        area = area.double()  # in float32 the root of a square may be rounded up
        narrowest, highest = (area / width**2).log(), (height**2 / area).log()
        low, high = (narrowest.clamp_min(math.log(end)).minimum(highest).maximum(narrowest) for end in self.aspect)
        draw = torch.rand(area.shape, generator=generator, device=area.device).double()
        ratio = (low + draw * (high - low)).exp()
        # A root that is a whole number but for rounding stays that number; then the sides hold the area in any case.
        tall = ((area * ratio).sqrt() - ROUNDING).ceil().clamp(max=height).maximum((area / width).ceil())
        wide = ((area / ratio).sqrt() - ROUNDING).ceil().clamp(max=width).maximum((area / tall).ceil())
        return tall.long(), wide.long()

    def extra_repr(self) -> str:
        return super().extra_repr() + (f', aspect={self.aspect}' if self.aspect != (0.5, 2.0) else '')
