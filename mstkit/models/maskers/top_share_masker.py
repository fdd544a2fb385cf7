"""Masks of which a growing share is taken by score and the rest at random (hard patches mining)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Generator, Tensor

from mstkit.models.maskers.functional import ranks
from mstkit.models.maskers.masker import check_probability
from mstkit.models.maskers.masking_ratio import Ratio
from mstkit.models.maskers.ratio_masker import RankedMasker
from mstkit.registry import MODELS
from mstkit.structures import MaskContext, Progress


@MODELS.register_module()
class TopShareMasker(RankedMasker):
    """Hides the patches of highest score up to a share α of the budget, and for the rest of it any others.

    The masks of HPM (Wang et al., CVPR 2023, arXiv 2304.05919, section 3.4 and its code): of the n patches to hide in
    epoch e of E, counted from 0, int(α n) are those of highest score, with α = ``start`` + (``end`` − ``start``)
    (e + 1) / E, and the others are drawn uniformly from those that are left. HPM goes from easy to hard: at first
    nearly all are random, in the end half. There the score is the predicted loss; any guide's attention works as well.

    Args:
        ratio: share of the patches to hide, or the range from which it is drawn for each image.
        image_prob: probability that an image is masked.
        start: α before the first epoch.
        end: α in the last epoch.
        direction: whether the patches of the highest scores are taken ('most', the hard ones in HPM) or those of the
            lowest ('least', the easy ones).
        layer: the guide's block whose attention is used, from the end (-1 is the last).
        exclude_cls_key: rank by attention over the patches alone; see :func:`functional.importance_of`.
        stratified: see :class:`RatioMasker`.

    Raises:
        UsageError: a ratio, share or probability outside [0, 1], a range with the larger number first, an unknown
            direction, a layer that is not negative, a flag that is neither True nor False.
    """

    def __init__(
        self,
        ratio: Ratio = 0.75,
        image_prob: float = 1.0,
        start: float = 0.0,
        end: float = 0.5,
        direction: Literal['most', 'least'] = 'most',
        layer: int = -1,
        exclude_cls_key: bool = False,
        stratified: bool = False,
    ) -> None:
        super().__init__(ratio, image_prob, direction, layer, exclude_cls_key, stratified)
        self.start, self.end = check_probability(start, 'start', self), check_probability(end, 'end', self)
        self.share = self.start

    @property
    def varies(self) -> bool:
        """See :attr:`Masker.varies`; not where all is taken by score, in every epoch, and the ratio is fixed."""
        drawn = self.ratio[0] < self.ratio[1] or 0 < self.image_prob < 1
        return drawn or (self.start, self.end) != (1, 1)

    def share_at(self, progress: Progress) -> float:
        """α in the epoch of a step."""
        epochs = max(math.ceil(progress.total_steps / progress.steps_per_epoch), 1)
        return self.start + min((progress.epoch + 1) / epochs, 1.0) * (self.end - self.start)

    def set_progress(self, progress: Progress) -> None:
        """See :meth:`Masker.set_progress`; also sets the share of the epoch."""
        super().set_progress(progress)
        self.share = self.share_at(progress)

    def choose(self, context: MaskContext, counts: Tensor, generator: Generator) -> Tensor:
        """See :meth:`RatioMasker.choose`."""
        taken = (counts.double() * self.share).long()  # (B, 1); in float64, so that it is the whole number of the paper
        first = self.by_score(context) < taken
        draw = torch.rand(first.shape, generator=generator, device=first.device)
        return ranks(draw.masked_fill(first, -1.0)) < counts

    def extra_repr(self) -> str:
        words = f'{super().extra_repr()}, start={self.start}, end={self.end}, direction={self.direction!r}'
        return words + (f', layer={self.layer}' if self.layer != -1 else '')
