"""Base classes of maskers that hide an exact share of each image."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

from torch import Generator, Tensor

from mstkit.models.maskers.functional import importance_of, ranks
from mstkit.models.maskers.masker import Masker, check_layer, check_probability
from mstkit.models.maskers.masking_ratio import (
    Ratio,
    amount,
    check_ratio,
    draw_counts,
    draw_images,
    draw_stratified_counts,
)
from mstkit.structures import MaskContext
from mstkit.utils.checks import check_flag, check_one_of


class RatioMasker(Masker):
    """Hides exactly int(r L) patches of each masked image, with a ratio r of its own; which ones, a subclass says.

    Args:
        ratio: share of the patches to hide, or the range from which it is drawn uniformly for each image.
        image_prob: probability that an image is masked.
        stratified: spread the ratios evenly over the range within each batch of a process, and mask exactly
            int(B * image_prob) of its B images (DINOv2; see :func:`draw_stratified_counts`).

    Raises:
        UsageError: a ratio or a probability outside [0, 1], a range with the larger number first, a flag that is
            neither True nor False.
    """

    ratio: tuple[float, float]

    def __init__(self, ratio: Ratio, image_prob: float, stratified: bool = False) -> None:
        super().__init__()
        self.ratio = check_ratio(ratio, self)
        self.image_prob = check_probability(image_prob, 'image_prob', self)
        self.stratified = check_flag(f'{type(self).__name__}.stratified', stratified)

    @property
    def equal_counts(self) -> bool:
        """See :attr:`Masker.equal_counts`."""
        return self.ratio[0] == self.ratio[1] and self.image_prob in (0, 1)

    def hide(self, context: MaskContext, generator: Generator) -> Tensor:
        """See :meth:`Masker.hide`."""
        batch, device = len(context.images), context.device
        if self.stratified:
            counts = draw_stratified_counts(self.ratio, context.grid, self.image_prob, batch, generator, device)
            return self.choose(context, counts, generator)
        counts = draw_counts(self.ratio, context.grid, batch, generator, device)
        hidden = self.choose(context, counts, generator)
        return hidden & draw_images(self.image_prob, batch, generator, device)

    @abstractmethod
    def choose(self, context: MaskContext, counts: Tensor, generator: Generator) -> Tensor:
        """Chooses the patches to hide.

        Args:
            context: see :meth:`Masker.hide`.
            counts: (B, 1) int64, how many of each image.
            generator: see :meth:`Masker.hide`.

        Returns:
            (B, L) bool with exactly ``counts`` True in each row.
        """

    def extra_repr(self) -> str:
        return amount(self.ratio, self.image_prob) + (', stratified=True' if self.stratified else '')


class RankedMasker(RatioMasker):
    """A :class:`RatioMasker` that looks at the order, or the size, of a guide's scores.

    Args:
        ratio: see :class:`RatioMasker`.
        image_prob: see :class:`RatioMasker`.
        direction: whether the patches of the highest scores come first ('most') or those of the lowest ('least').
        layer: the guide's block whose attention is used, from the end (-1 is the last).
        exclude_cls_key: rank by attention over the patches alone; see :func:`functional.importance_of`.
        stratified: see :class:`RatioMasker`.

    Raises:
        UsageError: see :class:`RatioMasker`; an unknown direction, a layer that is not negative.
    """

    needs_scores = True

    def __init__(
        self,
        ratio: Ratio,
        image_prob: float,
        direction: Literal['most', 'least'],
        layer: int,
        exclude_cls_key: bool,
        stratified: bool = False,
    ) -> None:
        super().__init__(ratio, image_prob, stratified)
        name = type(self).__name__
        self.direction = check_one_of(f'{name}.direction', direction, ('most', 'least'))
        self.layer = check_layer(layer, self)
        self.exclude_cls_key = check_flag(f'{name}.exclude_cls_key', exclude_cls_key)

    def importance(self, context: MaskContext) -> Tensor:
        """The score of each patch, mean over heads: (B, L) float32."""
        assert context.scores is not None
        return importance_of(context.scores, self.exclude_cls_key)

    def by_score(self, context: MaskContext) -> Tensor:
        """Ranks of the patches (B, L) by ``direction``; rank 0 comes first."""
        importance = self.importance(context)
        return ranks(-importance if self.direction == 'most' else importance)
