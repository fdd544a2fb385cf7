"""Random masks that prefer the patches of highest score (AutoMAE)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Generator, Tensor

from mstkit.models.maskers.functional import ranks
from mstkit.models.maskers.masking_ratio import Ratio
from mstkit.models.maskers.ratio_masker import RankedMasker
from mstkit.registry import MODELS
from mstkit.structures import MaskContext
from mstkit.utils.checks import check_number


@MODELS.register_module()
class PreferenceMasker(RankedMasker):
    """Hides the patches of the largest random numbers, to which those of the highest scores get a bonus.

    The masks of AutoMAE (Chen et al., PRCV 2023, arXiv 2303.06583, and its code): each patch draws u, uniform in
    [0, 1]; of an image with V patches to stay visible, the V of the highest scores get ``preference`` on top; the V
    patches of the smallest sums stay visible. With 0 it is a random mask, from 1 on a preferred patch stays visible
    only if all the others are hidden. There the score is a sample of a mask generator
    (:class:`GeneratedMaskGuide`); any guide's attention works as well.

    Args:
        ratio: share of the patches to hide, or the range from which it is drawn for each image.
        image_prob: probability that an image is masked.
        preference: the bonus.
        direction: whether the patches of the highest scores are preferred ('most') or those of the lowest ('least').
        layer: the guide's block whose attention is used, from the end (-1 is the last).
        exclude_cls_key: rank by attention over the patches alone; see :func:`functional.importance_of`.
        stratified: see :class:`RatioMasker`.

    Raises:
        UsageError: a ratio or a probability outside [0, 1], a range with the larger number first, a preference that is
            negative, an unknown direction, a layer that is not negative, a flag that is neither True nor False.
    """

    def __init__(
        self,
        ratio: Ratio = 0.75,
        image_prob: float = 1.0,
        preference: float = 0.5,
        direction: Literal['most', 'least'] = 'most',
        layer: int = -1,
        exclude_cls_key: bool = False,
        stratified: bool = False,
    ) -> None:
        super().__init__(ratio, image_prob, direction, layer, exclude_cls_key, stratified)
        self.preference = check_number('PreferenceMasker.preference', preference, 0, 1e6)

    @property
    def varies(self) -> bool:
        """See :attr:`Masker.varies`; with a bonus of 1 the patches of the highest scores are the mask of one half."""
        return self.preference < 1 or self.ratio != (0.5, 0.5) or 0 < self.image_prob < 1

    def choose(self, context: MaskContext, counts: Tensor, generator: Generator) -> Tensor:
        """See :meth:`RatioMasker.choose`."""
        places = self.by_score(context)
        visible = places.shape[1] - counts
        preferred = places < visible
        draw = torch.rand(preferred.shape, generator=generator, device=preferred.device)
        return ranks(draw + self.preference * preferred) >= visible

    def extra_repr(self) -> str:
        words = f'{super().extra_repr()}, preference={self.preference}, direction={self.direction!r}'
        return words + (f', layer={self.layer}' if self.layer != -1 else '')
