"""Block-wise masking of BEiT and iBOT."""

from __future__ import annotations

import math

from torch import Generator, Tensor

from mstkit.models.maskers.functional import blocks, rolled, with_random
from mstkit.models.maskers.masker import check_probability
from mstkit.models.maskers.masking_ratio import Ratio
from mstkit.models.maskers.ratio_masker import RatioMasker
from mstkit.registry import MODELS
from mstkit.structures import MaskContext
from mstkit.utils.checks import check_count, check_flag, check_range


@MODELS.register_module()
class BlockMasker(RatioMasker):
    """Hides rectangular blocks of patches, up to an exact share of each image.

    As in iBOT (Zhou et al., ICLR 2022) and BEiT, a ratio r is drawn per image, then rectangles until int(r L) patches
    are hidden. Unlike in their code the count is exact (the last block is cut to fit), every patch can be hidden, and
    the running time is bounded; see :func:`functional.blocks`.

    Args:
        ratio: share of the patches to hide, or the range from which it is drawn for each image.
        image_prob: probability that an image is masked.
        aspect: lowest and highest ratio of a block's height to its width.
        min_block: smallest block in patches; None for (min(h, w) // 3)², as in iBOT (16 of 196); at most ``max_block``.
        roll: shift the mask of each image cyclically along both axes, by random offsets, so that patches at the border
            are hidden as often as those in the middle (``random_circular_shift`` of DINOv3; Franca).
        stratified: see :class:`RatioMasker`.
        max_block: largest block in patches; None for no limit but what is still to hide.
        scattered: share of the hidden patches of each image that is drawn at random outside of the blocks. BootMAE's
            code has 27 of 147 beside blocks of 16 to 60 patches.

    Raises:
        UsageError: a ratio or a probability outside [0, 1], a range with the larger number first, an aspect that is
            not positive, a ``min_block`` below 1, a ``max_block`` below it, a flag that is neither True nor False.
    """

    def __init__(
        self,
        ratio: Ratio = (0.1, 0.5),
        image_prob: float = 0.5,
        aspect: tuple[float, float] = (0.3, 1 / 0.3),
        min_block: int | None = None,
        roll: bool = False,
        stratified: bool = False,
        max_block: int | None = None,
        scattered: float = 0.0,
    ) -> None:
        super().__init__(ratio, image_prob, stratified)
        self.aspect = check_range('BlockMasker.aspect', aspect, above=0)
        self.min_block = None if min_block is None else check_count('BlockMasker.min_block', min_block, 1)
        self.max_block = None if max_block is None else check_count('BlockMasker.max_block', max_block, min_block or 1)
        self.scattered = check_probability(scattered, 'scattered', self)
        self.roll = check_flag('BlockMasker.roll', roll)

    def choose(self, context: MaskContext, counts: Tensor, generator: Generator) -> Tensor:
        """See :meth:`RatioMasker.choose`."""
        min_block, most = self.min_block, self.max_block
        if min_block is None:
            usual = max(1, (min(context.grid) // 3) ** 2)
            min_block = usual if most is None else min(usual, most)
        alone = (self.scattered * counts).round().long()  # (B, 1)
        # The smaller the blocks, the more of them: 24 for BootMAE's, by which none of 4,000 images lacked a patch.
        rounds = 12 if most is None else min(100, 12 + 4 * math.ceil(self.ratio[1] * context.shape[1] / most))
        hidden = blocks(counts - alone, context.grid, min_block, self.aspect, generator, rounds, most)
        if self.scattered:
            hidden = with_random(hidden, alone, generator)
        return rolled(hidden, context.grid, generator) if self.roll else hidden

    def extra_repr(self) -> str:
        return super().extra_repr() + (', roll=True' if self.roll else '') + self._limits()

    def _limits(self) -> str:
        most = '' if self.max_block is None else f', max_block={self.max_block}'
        return most + (f', scattered={self.scattered:g}' if self.scattered else '')
