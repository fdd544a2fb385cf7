"""AttMask: hides the most- or the least-attended patches (Kakogeorgiou et al., ECCV 2022)."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from mstkit.errors import UsageError
from mstkit.models.maskers.functional import importance_of, ranks
from mstkit.models.maskers.masker import Masker, check_layer, check_probability
from mstkit.models.maskers.masking_ratio import Ratio, amount, check_ratio, count_of, draw_counts, draw_images
from mstkit.registry import MODELS
from mstkit.structures import MaskContext


class AttMask(Masker):
    """Base class of the three AttMask strategies.

    Each iteration draws one masking ratio r per rank for the whole batch and hides exactly int(r L) patches of an
    image, chosen by attention alone. Each crop is masked with probability ``image_prob`` and left unmasked otherwise.
    Patches are ranked in float32, whatever precision the network uses.

    Args:
        ratio: share of the patches to hide, or the range from which it is drawn uniformly.
        image_prob: probability that a crop is masked.
        layer: the guide's block whose attention is used, from the end (-1 is the last).
        exclude_cls_key: rank by attention over the patches alone; see :func:`functional.importance_of`.

    Raises:
        UsageError: a ratio or a probability outside [0, 1], a range with the larger number first, a layer that is not
            negative.
    """

    needs_scores = True
    ratio: tuple[float, float]

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
        return self.image_prob in (0, 1)  # all images of a batch share the ratio

    @property
    def varies(self) -> bool:
        """See :attr:`Masker.varies`; scores, and a ratio that is fixed, decide alone."""
        return self.ratio[0] < self.ratio[1] or 0 < self.image_prob < 1

    def hide(self, context: MaskContext, generator: Generator) -> Tensor:
        """See :meth:`Masker.hide`."""
        assert context.scores is not None
        place = self.places(importance_of(context.scores, self.exclude_cls_key))
        count = draw_counts(self.ratio, (place.shape[1],), 1, generator, place.device)
        hidden = place < count
        hidden &= ~self.hints(place, generator)
        return hidden & draw_images(self.image_prob, len(place), generator, place.device)

    def places(self, importance: Tensor) -> Tensor:
        """The order in which patches are hidden: (B, L) importance to (B, L) ranks; rank 0 is hidden first."""
        raise NotImplementedError

    def hints(self, place: Tensor, generator: Generator) -> Tensor:
        """Patches that stay visible although their rank is below the count, (B, L) bool; none by default."""
        return torch.zeros_like(place, dtype=torch.bool)

    def extra_repr(self) -> str:
        return amount(self.ratio, self.image_prob) + (f', layer={self.layer}' if self.layer != -1 else '')


@MODELS.register_module()
class AttMaskHigh(AttMask):
    """Hides the most-attended patches (AttMask-High). Arguments: :class:`AttMask`."""

    def places(self, importance: Tensor) -> Tensor:
        """See :meth:`AttMask.places`: the most important patches first."""
        return ranks(-importance)


@MODELS.register_module()
class AttMaskLow(AttMask):
    """Hides the least-attended patches (AttMask-Low), the weaker choice in the paper. Arguments: :class:`AttMask`."""

    def places(self, importance: Tensor) -> Tensor:
        """See :meth:`AttMask.places`: the least important patches first."""
        return ranks(importance)


@MODELS.register_module()
class AttMaskHint(AttMaskHigh):
    """Hides the most-attended patches except for a few hints among them (AttMask-Hint).

    Of the int(show_max L) most-attended patches, int(show_max r' L) chosen at random stay visible, where r' is drawn
    from the range of ``ratio`` independently of r, once per batch.

    Args:
        ratio: see :class:`AttMask`.
        image_prob: see :class:`AttMask`.
        show_max: share of the most-attended patches from which the hints are drawn; 0.1 in the paper.
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
        """See :attr:`Masker.equal_counts`; not for a ratio below ``show_max``, where a hint may be visible anyway."""
        return super().equal_counts and self.ratio[0] >= self.show_max

    @property
    def varies(self) -> bool:
        """See :attr:`Masker.varies`; the hints are drawn."""
        return super().varies or self.show_max > 0

    def hints(self, place: Tensor, generator: Generator) -> Tensor:
        """See :meth:`AttMask.hints`."""
        length = place.shape[1]
        shown = draw_counts(self.ratio, (length,), 1, generator, place.device, of=self.show_max)
        chance = torch.rand(place.shape, generator=generator, device=place.device)
        # A random order of the first int(show_max L) patches; all others come after them.
        order = ranks(chance + (place >= count_of(self.show_max, length)))
        return order < shown

    def check_grid(self, length: int) -> None:
        """Refuses a ``show_max`` that gives no hint among L patches even at the highest ratio."""
        if count_of(self.ratio[1] * self.show_max, length) == 0:
            needed = 1 / (max(self.ratio[1], 1e-9) * length)
            way_out = f'use one of at least {needed:.2g}' if needed <= 1 else 'raise the ratio'
            raise UsageError(
                f'AttMaskHint: show_max={self.show_max:g} with ratio={self.ratio} leaves none of {length} patches '
                f'visible as a hint: {way_out}, or take AttMaskHigh'
            )

    def extra_repr(self) -> str:
        return f'{super().extra_repr()}, show_max={self.show_max}'
