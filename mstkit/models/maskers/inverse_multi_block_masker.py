"""A few small blocks stay visible (data2vec 2.0)."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from mstkit.models.maskers.functional import ranks
from mstkit.models.maskers.masking_ratio import Ratio
from mstkit.models.maskers.ratio_masker import RatioMasker
from mstkit.registry import MODELS
from mstkit.structures import MaskContext
from mstkit.utils.checks import check_count, check_number


@MODELS.register_module()
class InverseMultiBlockMasker(RatioMasker):
    """Hides all but some square blocks of patches, which may overlap.

    The inverse block masks of data2vec 2.0 (Baevski et al., arXiv 2212.07525): V patches stay visible. The centers of
    int((V + adjust L) / block²) blocks, at least one, are drawn among all patches, with replacement; what lies beyond
    the grid is cut off. If they cover more than V patches, any of those are hidden again until V are left; if fewer,
    any of the others become visible.

    Unlike in the published code, where int((1 - ratio) L) patches are visible, int(ratio L) are hidden: on a 14 x 14
    grid 156, there 157. That each image has several masks for one pass of the teacher is not the masker's matter.

    Args:
        ratio: share of the patches to hide, or the range from which it is drawn for each image.
        image_prob: probability that an image is masked.
        block: patches along a side of a block.
        adjust: how much more of the grid the blocks would cover without overlaps than is to be visible.

    Raises:
        UsageError: a ratio or a probability outside [0, 1], a range with the larger number first, a ``block`` below 1,
            an ``adjust`` outside [0, 1].
    """

    def __init__(self, ratio: Ratio = 0.8, image_prob: float = 1.0, block: int = 3, adjust: float = 0.07) -> None:
        super().__init__(ratio, image_prob)
        self.block = check_count('InverseMultiBlockMasker.block', block, 1)
        self.adjust = check_number('InverseMultiBlockMasker.adjust', adjust, 0, 1)

    def choose(self, context: MaskContext, counts: Tensor, generator: Generator) -> Tensor:
        """See :meth:`RatioMasker.choose`."""
        (batch, length), (height, width), device = context.shape, context.grid, context.device
        visible = length - counts
        number = ((visible + self.adjust * length) / self.block**2).long().clamp_min(1)  # (B, 1)
        most = max(1, int(((1 - self.ratio[0] + self.adjust) * length + 1) / self.block**2))
        centers = torch.randint(length, (batch, most), generator=generator, device=device)
        # (B, M, h) and (B, M, w): whether a row or column crosses the block.
        rows = torch.arange(height, device=device) - (centers // width).unsqueeze(2) + self.block // 2
        columns = torch.arange(width, device=device) - (centers % width).unsqueeze(2) + self.block // 2
        rows, columns = ((side >= 0) & (side < self.block) for side in (rows, columns))
        rows &= (torch.arange(most, device=device) < number).unsqueeze(2)
        covered = (rows.unsqueeze(3) & columns.unsqueeze(2)).any(1).flatten(1)  # (B, L)
        chance = torch.rand((batch, length), generator=generator, device=device)
        return ranks(chance + ~covered) >= visible

    def extra_repr(self) -> str:
        return f'{super().extra_repr()}, block={self.block}, adjust={self.adjust}'
