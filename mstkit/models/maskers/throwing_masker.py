"""Masks of three parts: patches that are hidden, patches that are thrown, and visible ones (AMT)."""

from __future__ import annotations

from typing import Literal

from torch import Generator, Tensor

from mstkit.errors import UsageError
from mstkit.models.maskers.functional import places_by_importance, uniform_places
from mstkit.models.maskers.masker import check_probability
from mstkit.models.maskers.masking_ratio import ROUNDING, Ratio, count_of, draw_counts, draw_images
from mstkit.models.maskers.ratio_masker import RankedMasker
from mstkit.registry import MODELS
from mstkit.structures import MaskContext
from mstkit.utils.checks import check_one_of


@MODELS.register_module()
class ThrowingMasker(RankedMasker):
    """Puts the patches of an image in an order, hides the first, throws the next and leaves the last visible.

    Thrown patches are neither encoded nor predicted, and have no token in the decoder. The defaults are AMT's masking
    and throwing (Liu et al., AAAI 2023, arXiv 2211.15362, and its code): patches are drawn one after another without
    replacement in proportion to their attention; .45 are hidden, .40 thrown and .15 visible. Of L patches the first
    int(r L) are hidden and those up to int((r + t) L) thrown; with a range of ratios as many are thrown in every image
    as with its lowest.

    It is for methods that encode the visible patches alone (MAE). With [MASK] tokens the encoder has a token in every
    place, of a Swin necessarily, so nothing is left out, and the method refuses this masker.

    Args:
        ratio: share r of the patches to hide, or the range from which it is drawn for each image.
        throw: share t of the patches to throw.
        order: 'drawn' in proportion to attention a, or to 1 / a; 'ranked' by attention; 'random', which needs no guide
            and is what the others are compared with.
        direction: whether the most or the least attended patches come first; of no meaning in a random order.
        image_prob: probability that an image is masked; from others nothing is thrown either.
        layer: the guide's block whose attention is used, from the end (-1 is the last).
        exclude_cls_key: rank by attention over the patches alone; see :func:`functional.importance_of`.

    Raises:
        UsageError: shares or a probability outside [0, 1], shares of more than 1 together, a range with the larger
            number first, an unknown word, a layer that is not negative, a flag that is neither True nor False.
    """

    throws = True

    def __init__(
        self,
        ratio: Ratio = 0.45,
        throw: float = 0.40,
        order: Literal['drawn', 'ranked', 'random'] = 'drawn',
        direction: Literal['most', 'least'] = 'most',
        image_prob: float = 1.0,
        layer: int = -1,
        exclude_cls_key: bool = False,
    ) -> None:
        super().__init__(ratio, image_prob, direction, layer, exclude_cls_key)
        self.throw = check_probability(throw, 'throw', self)
        self.order = check_one_of('ThrowingMasker.order', order, ('drawn', 'ranked', 'random'))
        self.needs_scores = order != 'random'
        if self.ratio[1] + self.throw > 1 + ROUNDING:
            raise UsageError(
                f'ThrowingMasker: ratio={ratio} and throw={throw} are more than all patches: give less than 1 together'
            )

    @property
    def varies(self) -> bool:
        """See :attr:`Masker.varies`; with ``order='ranked'`` scores, and a ratio that is fixed, decide alone."""
        return self.order != 'ranked' or self.ratio[0] < self.ratio[1] or 0 < self.image_prob < 1

    def thrown_count(self, *sides: int) -> int:
        """How many patches of a grid are thrown, int((r + t) L) - int(r L) with the lowest ratio r."""
        # 0.7 + 0.1 is 0.7999999999999999: rounding down must not lose a patch to it.
        end = count_of(self.ratio[0] + self.throw + ROUNDING, *sides)
        return end - count_of(self.ratio[0], *sides)

    def places(self, context: MaskContext, generator: Generator) -> Tensor:
        """The place of each patch in the order: (B, L) int64, 0 for the one that is hidden first."""
        if self.order == 'random':
            return uniform_places(context.shape, generator, context.device)
        if self.order == 'ranked':
            return self.by_score(context)
        return places_by_importance(self.importance(context), self.direction, generator)

    def choose(self, context: MaskContext, counts: Tensor, generator: Generator) -> Tensor:
        """See :meth:`RatioMasker.choose`."""
        return self.places(context, generator) < counts

    def hide_and_throw(self, context: MaskContext, generator: Generator) -> tuple[Tensor, Tensor]:
        """See :meth:`Masker.hide_and_throw`; the random draws are those of :meth:`hide`."""
        batch, device = len(context.images), context.device
        counts = draw_counts(self.ratio, context.grid, batch, generator, device)
        places = self.places(context, generator)
        masked = draw_images(self.image_prob, batch, generator, device)
        hidden = places < counts
        return hidden & masked, (places < counts + self.thrown_count(*context.grid)) & ~hidden & masked

    def check_grid(self, length: int) -> None:
        """Refuses to throw so many that none of L patches is visible."""
        hidden, thrown = count_of(self.ratio[1], length), self.thrown_count(length)
        if thrown and hidden + thrown >= length:
            raise UsageError(
                f'ThrowingMasker hides {hidden} of {length} patches and throws {thrown}, so none is visible: lower '
                f'ratio (the highest is {self.ratio[1]:g}) or throw ({self.throw:g})'
            )

    def extra_repr(self) -> str:
        words = f'{super().extra_repr()}, throw={self.throw}, order={self.order!r}'
        words += '' if self.order == 'random' else f', direction={self.direction!r}'
        return words + (f', layer={self.layer}' if self.layer != -1 else '')
