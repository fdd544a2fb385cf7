"""AttMask: hides what the teacher looks at most, or least (Kakogeorgiou et al., ECCV 2022)."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from mstkit.errors import UsageError
from mstkit.models.maskers.base import Masker, check_layer, check_probability
from mstkit.models.maskers.functional import importance_of, ranks
from mstkit.models.maskers.masking_ratio import Ratio, amount, check_ratio, count_of, draw_counts, draw_images
from mstkit.registry import MODELS
from mstkit.structures import MaskContext


class AttMask(Masker):
    """What the three AttMask strategies share: one ratio per batch, an exact count, and images left whole.

    Each iteration draws one ratio r for the whole batch (each rank its own) and hides int(r L) patches of an image,
    without chance inside that set. Each image (each crop of it by itself) is masked with probability ``image_prob``,
    and left whole otherwise. Ranking is in float32, whatever the network runs in.

    Args:
        ratio: share of the patches to hide, or the range that it is drawn from, evenly.
        image_prob: share of the images that are masked at all.
        layer: the teacher's block whose attention guides, from the end (-1 is the last).
        exclude_cls_key: rank by attention over the patches alone; see :func:`functional.importance_of`.

    Raises:
        UsageError: a ratio or a probability outside [0, 1], a range the wrong way round, a layer counted from the
            front.
    """

    needs_scores = True

    def __init__(
        self, ratio: Ratio = (0.1, 0.5), image_prob: float = 0.5, layer: int = -1, exclude_cls_key: bool = False
    ) -> None:
        super().__init__()
        self.ratio = check_ratio(ratio, self)
        self.image_prob = check_probability(image_prob, 'image_prob', self)
        self.layer = check_layer(layer, self)
        self.exclude_cls_key = exclude_cls_key

    @property
    def equal_counts(self) -> bool:
        """See :attr:`Masker.equal_counts`."""
        return self.image_prob in (0, 1)  # the ratio is the whole batch's

    def hide(self, context: MaskContext, generator: Generator) -> Tensor:
        """See :meth:`Masker.hide`."""
        assert context.scores is not None
        place = self.places(importance_of(context.scores, self.exclude_cls_key))
        count = draw_counts(self.ratio, (place.shape[1],), 1, generator, place.device)
        hidden = place < count
        hidden &= ~self.hints(place, generator)
        return hidden & draw_images(self.image_prob, len(place), generator, place.device)

    def places(self, importance: Tensor) -> Tensor:
        """The order of hiding: (B, L) importance to (B, L) places, 0 hidden first."""
        raise NotImplementedError

    def hints(self, place: Tensor, generator: Generator) -> Tensor:
        """Patches that stay visible all the same, (B, L) bool; none here."""
        return torch.zeros_like(place, dtype=torch.bool)

    def extra_repr(self) -> str:
        return amount(self.ratio, self.image_prob) + (f', layer={self.layer}' if self.layer != -1 else '')


@MODELS.register_module()
class AttMaskHigh(AttMask):
    """Hides the most-attended patches (AttMask-High). Arguments: :class:`AttMask`."""

    def places(self, importance: Tensor) -> Tensor:
        """The most important first."""
        return ranks(-importance)


@MODELS.register_module()
class AttMaskLow(AttMask):
    """Hides the least-attended patches (AttMask-Low), the weaker choice in the paper. Arguments: :class:`AttMask`."""

    def places(self, importance: Tensor) -> Tensor:
        """The least important first."""
        return ranks(importance)


@MODELS.register_module()
class AttMaskHint(AttMaskHigh):
    """Hides the most-attended patches but shows a few of the very first (AttMask-Hint).

    Of the int(show_max L) most-attended patches, int(show_max r' L) chosen at random stay visible, where r' is a
    second draw from the range of ``ratio``, one for the batch.

    Args:
        ratio: see :class:`AttMask`.
        image_prob: see :class:`AttMask`.
        show_max: share of the patches from which the hints are taken; 0.1 is the paper's.
        layer: see :class:`AttMask`.
        exclude_cls_key: see :class:`AttMask`.

    Raises:
        UsageError: see :class:`AttMask`; show_max outside [0, 1], or (:meth:`check_grid`) too small to show a patch.
    """

    def __init__(
        self,
        ratio: Ratio = (0.1, 0.5),
        image_prob: float = 0.5,
        show_max: float = 0.1,
        layer: int = -1,
        exclude_cls_key: bool = False,
    ) -> None:
        super().__init__(ratio, image_prob, layer, exclude_cls_key)
        self.show_max = check_probability(show_max, 'show_max', self)

    @property
    def equal_counts(self) -> bool:
        """Where all patches that can be shown are hidden otherwise; a smaller ratio hides some of them only."""
        return super().equal_counts and self.ratio[0] >= self.show_max

    def hints(self, place: Tensor, generator: Generator) -> Tensor:
        """See :meth:`AttMask.hints`."""
        length = place.shape[1]
        shown = draw_counts(self.ratio, (length,), 1, generator, place.device, of=self.show_max)
        chance = torch.rand(place.shape, generator=generator, device=place.device)
        # Random places among the first floor(show_max L); the others come after them.
        order = ranks(chance + (place >= count_of(self.show_max, length)))
        return order < shown

    def check_grid(self, length: int) -> None:
        """Refuses a show_max of which no patch is left to show among L."""
        if count_of(self.ratio[1] * self.show_max, length) == 0:
            needed = 1 / (max(self.ratio[1], 1e-9) * length)
            way_out = f'use one of at least {needed:.2g}' if needed <= 1 else 'raise the ratio'
            raise UsageError(
                f'AttMaskHint: show_max={self.show_max:g} with ratio={self.ratio} shows not one of {length} patches; '
                f'{way_out}, or AttMaskHigh'
            )

    def extra_repr(self) -> str:
        return f'{super().extra_repr()}, show_max={self.show_max}'
