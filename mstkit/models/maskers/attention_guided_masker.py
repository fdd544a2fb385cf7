"""MST's masking strategy: random masking among the patches with the lowest attention."""

from __future__ import annotations

from torch import Generator, Tensor

from mstkit.errors import UsageError
from mstkit.models.maskers.functional import bernoulli, importance_of, lowest
from mstkit.models.maskers.masker import Masker, check_layer, check_probability
from mstkit.registry import MODELS
from mstkit.structures import MaskContext
from mstkit.utils.checks import check_count


@MODELS.register_module()
class AttentionGuidedMasker(Masker):
    """Hides each of the least-attended patches with a fixed probability (MST eq. 5).

    The floor(L / num) patches of lowest attention are the candidates; each candidate is hidden with probability
    ``prob``, other patches never. (The paper's algorithm 1 prints the opposite comparison; its equation 5, text and
    figure 2 agree with this implementation.)

    Args:
        num: one patch in ``num`` is a candidate; 8 is the paper's best (table 5).
        prob: probability of hiding a candidate; 0.10 is the paper's best (table 5).
        exclude_cls_key: rank by attention over the patches alone; see :func:`functional.importance_of`.
        layer: the guide's block whose attention is used, from the end; -1, the last, in the paper.

    Raises:
        UsageError: num below 1, prob outside [0, 1], a layer that is not negative.
    """

    needs_scores = True

    def __init__(self, num: int = 8, prob: float = 0.10, exclude_cls_key: bool = False, layer: int = -1) -> None:
        super().__init__()
        self.num = check_count('AttentionGuidedMasker.num', num, 1)
        self.prob = check_probability(prob, 'prob', self)
        self.exclude_cls_key = exclude_cls_key
        self.layer = check_layer(layer, self)

    @property
    def equal_counts(self) -> bool:
        """See :attr:`Masker.equal_counts`."""
        return self.prob in (0, 1)

    @property
    def varies(self) -> bool:
        """See :attr:`Masker.varies`; not where every candidate is hidden, or none."""
        return 0 < self.prob < 1

    def hide(self, context: MaskContext, generator: Generator) -> Tensor:
        """See :meth:`Masker.hide`."""
        assert context.scores is not None
        importance = importance_of(context.scores, self.exclude_cls_key)
        candidates = lowest(importance, importance.shape[1] // self.num)
        return candidates & bernoulli(importance.shape, self.prob, generator, importance.device)

    def check_grid(self, length: int) -> None:
        """Refuses a ``num`` larger than L."""
        if length // self.num == 0:
            raise UsageError(
                f'AttentionGuidedMasker: num={self.num} leaves no candidate among {length} patches; '
                f'use a num of at most {length}'
            )

    def extra_repr(self) -> str:
        return f'num={self.num}, prob={self.prob}'
