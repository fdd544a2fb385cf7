"""Base class of maskers that hide an exact share of each image."""

from __future__ import annotations

from abc import abstractmethod

from torch import Generator, Tensor

from mstkit.models.maskers.masker import Masker, check_probability
from mstkit.models.maskers.masking_ratio import (
    Ratio,
    amount,
    check_ratio,
    draw_counts,
    draw_images,
    draw_stratified_counts,
)
from mstkit.structures import MaskContext
from mstkit.utils.checks import check_flag


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
