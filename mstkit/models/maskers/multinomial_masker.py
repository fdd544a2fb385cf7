"""Masks drawn in proportion to the guide's attention (MILAN, AMT)."""

from __future__ import annotations

from typing import Literal

from torch import Generator, Tensor

from mstkit.models.maskers.functional import places_by_importance
from mstkit.models.maskers.masking_ratio import Ratio
from mstkit.models.maskers.ratio_masker import RankedMasker
from mstkit.registry import MODELS
from mstkit.structures import MaskContext
from mstkit.utils.checks import check_one_of


@MODELS.register_module()
class MultinomialMasker(RankedMasker):
    """Draws an exact share of the patches without replacement, in proportion to their attention a or to 1 / a.

    With ``direction='most'`` the more attended a patch is, the more likely it is hidden: as in AMT (Liu et al., AAAI
    2023, arXiv 2211.15362) without its throwing (:class:`ThrowingMasker`). With ``direction='least', drawn='visible'``
    the visible patches are drawn in proportion to a: MILAN's sampling (Hou et al., arXiv 2208.06049). There is no
    temperature in either. Unlike in :class:`AttMaskHigh` and :class:`AttMaskLow` every patch can be hidden, and every
    patch can stay visible.

    Attention below the smallest normal float32 (1.2e-38), zero above all, counts as that number.

    Args:
        ratio: share of the patches to hide, or the range from which it is drawn for each image.
        image_prob: probability that an image is masked.
        direction: whether the most or the least attended patches are hidden more often.
        drawn: which patches are drawn one after another: 'hidden', by a (most) or 1 / a (least), or 'visible', by 1 / a
            (most) or a (least). The two are not the same: what draws without replacement leave over is not distributed
            as draws by the inverse are.
        layer: the guide's block whose attention is used, from the end (-1 is the last).
        exclude_cls_key: rank by attention over the patches alone; see :func:`functional.importance_of`.
        stratified: see :class:`RatioMasker`.

    Raises:
        UsageError: a ratio or a probability outside [0, 1], a range with the larger number first, an unknown word, a
            layer that is not negative, a flag that is neither True nor False.
    """

    def __init__(
        self,
        ratio: Ratio = 0.75,
        image_prob: float = 1.0,
        direction: Literal['most', 'least'] = 'most',
        drawn: Literal['hidden', 'visible'] = 'hidden',
        layer: int = -1,
        exclude_cls_key: bool = False,
        stratified: bool = False,
    ) -> None:
        super().__init__(ratio, image_prob, direction, layer, exclude_cls_key, stratified)
        self.drawn = check_one_of('MultinomialMasker.drawn', drawn, ('hidden', 'visible'))

    def choose(self, context: MaskContext, counts: Tensor, generator: Generator) -> Tensor:
        """See :meth:`RatioMasker.choose`."""
        attended_first = (self.direction == 'most') == (self.drawn == 'hidden')
        places = places_by_importance(self.importance(context), 'most' if attended_first else 'least', generator)
        return places < counts if self.drawn == 'hidden' else places >= places.shape[1] - counts

    def extra_repr(self) -> str:
        words = f'{super().extra_repr()}, direction={self.direction!r}, drawn={self.drawn!r}'
        return words + (f', layer={self.layer}' if self.layer != -1 else '')
