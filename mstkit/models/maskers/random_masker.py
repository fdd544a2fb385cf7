"""Random masking, independent of the image."""

from __future__ import annotations

from typing import Literal

from torch import Generator, Tensor

from mstkit.errors import UsageError
from mstkit.models.maskers.functional import bernoulli, uniform_places
from mstkit.models.maskers.masker import Masker, check_probability
from mstkit.models.maskers.masking_ratio import Ratio, amount, check_ratio, draw_counts, draw_images
from mstkit.registry import MODELS
from mstkit.structures import MaskContext
from mstkit.utils.checks import check_one_of


@MODELS.register_module()
class RandomMasker(Masker):
    """Hides patches at random: each patch independently (``prob``), or an exact share of each image (``ratio``).

    Args:
        prob: probability with which each patch is hidden (MST eq. 3; 0.15 in BERT).
        ratio: share of the L patches of an image to hide; a range such as (0.1, 0.5) draws a ratio per image (iBOT's
            random masks). Give either prob or ratio; with neither, ``prob`` is 0.15.
        image_prob: probability that an image is masked.
        rounding: of ``ratio * L`` to a whole number: 'down' as in iBOT and AttMask, 'up' as in MAE and SimMIM.

    Raises:
        UsageError: both prob and ratio, a value outside [0, 1], a range with the larger number first.
    """

    def __init__(
        self,
        prob: float | None = None,
        ratio: Ratio | None = None,
        image_prob: float = 1.0,
        rounding: Literal['down', 'up'] = 'down',
    ) -> None:
        super().__init__()
        if prob is not None and ratio is not None:
            raise UsageError(
                f'RandomMasker takes prob (each patch independently) or ratio (an exact share), not both: '
                f'prob={prob!r}, ratio={ratio!r}'
            )
        if prob is None and ratio is None:
            prob = 0.15
        self.prob = None if prob is None else check_probability(prob, 'prob', self)
        self.ratio = None if ratio is None else check_ratio(ratio, self)
        self.image_prob = check_probability(image_prob, 'image_prob', self)
        self.rounding = check_one_of('RandomMasker.rounding', rounding, ('down', 'up'))

    @property
    def equal_counts(self) -> bool:
        """See :attr:`Masker.equal_counts`."""
        return (self.prob in (0, 1) if self.ratio is None else self.ratio[0] == self.ratio[1]) and self.image_prob in (
            0,
            1,
        )

    def hide(self, context: MaskContext, generator: Generator) -> Tensor:
        """See :meth:`Masker.hide`."""
        (batch, length), device = context.shape, context.device
        if self.ratio is None:
            assert self.prob is not None
            hidden = bernoulli((batch, length), self.prob, generator, device)
        else:
            places = uniform_places((batch, length), generator, device)
            counts = draw_counts(self.ratio, context.grid, batch, generator, device, up=self.rounding == 'up')
            hidden = places < counts
        return hidden & draw_images(self.image_prob, batch, generator, device)

    def extra_repr(self) -> str:
        if self.ratio is not None:
            return amount(self.ratio, self.image_prob)
        return f'prob={self.prob}' + (f', image_prob={self.image_prob}' if self.image_prob < 1 else '')
