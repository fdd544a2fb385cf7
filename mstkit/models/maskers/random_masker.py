"""Masks that look at nothing."""

from __future__ import annotations

from torch import Generator, Tensor

from mstkit.errors import UsageError
from mstkit.models.maskers.base import Masker, check_probability
from mstkit.models.maskers.functional import bernoulli, exactly
from mstkit.registry import MODELS
from mstkit.structures import TokenOutput


@MODELS.register_module()
class RandomMasker(Masker):
    """Hides patches at random, each by itself or an exact share.

    Args:
        prob: each patch is hidden with this probability by itself (MST eq. 3, BERT's 0.15).
        ratio: exactly ``floor(ratio * L)`` patches of every image are hidden. Give one of the two; with neither,
            ``prob`` is 0.15.

    Raises:
        UsageError: both given, or a value outside [0, 1].
    """

    def __init__(self, prob: float | None = None, ratio: float | None = None) -> None:
        super().__init__()
        if prob is not None and ratio is not None:
            raise UsageError(
                f'RandomMasker takes prob (each patch by itself) or ratio (an exact share), not both: '
                f'prob={prob!r}, ratio={ratio!r}'
            )
        if prob is None and ratio is None:
            prob = 0.15
        self.prob = None if prob is None else check_probability(prob, 'prob', self)
        self.ratio = None if ratio is None else check_probability(ratio, 'ratio', self)

    def hide(self, tokens: TokenOutput, generator: Generator) -> Tensor:
        """See :meth:`Masker.hide`."""
        shape, device = tokens.patch_tokens.shape[:2], tokens.patch_tokens.device
        if self.prob is not None:
            return bernoulli(shape, self.prob, generator, device)
        assert self.ratio is not None
        return exactly(shape, int(self.ratio * shape[1] + 1e-9), generator, device)

    def extra_repr(self) -> str:
        return f'prob={self.prob}' if self.prob is not None else f'ratio={self.ratio}'
