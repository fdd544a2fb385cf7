"""MST's mask: random, but only where the teacher hardly looks."""

from __future__ import annotations

from torch import Generator, Tensor

from mstkit.errors import UsageError
from mstkit.models.maskers.base import Masker, check_layer, check_probability
from mstkit.models.maskers.functional import bernoulli, importance_of, lowest
from mstkit.registry import MODELS
from mstkit.structures import MaskContext
from mstkit.utils.checks import check_count


@MODELS.register_module()
class AttentionGuidedMasker(Masker):
    """Hides patches with a probability among the least-attended ones (MST eq. 5).

    The floor(L / num) patches of lowest attention are the candidates; each of them is hidden with probability
    ``prob``. No patch outside the candidates is ever hidden. (The paper's algorithm 1 prints the comparison the other
    way round; its equation 5, its text and its figure 2 agree with each other and with this.)

    Args:
        num: one patch in ``num`` is a candidate; 8 is the paper's best (table 5).
        prob: probability of hiding a candidate; 0.10 is the paper's best (table 5).
        exclude_cls_key: rank by attention over the patches alone; see :func:`functional.importance_of`.
        layer: the teacher's block whose attention guides, from the end; the paper's is the last, -1.

    Raises:
        UsageError: num below 1, prob outside [0, 1], a layer counted from the front.
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

    def hide(self, context: MaskContext, generator: Generator) -> Tensor:
        """See :meth:`Masker.hide`."""
        assert context.scores is not None
        importance = importance_of(context.scores, self.exclude_cls_key)
        candidates = lowest(importance, importance.shape[1] // self.num)
        return candidates & bernoulli(importance.shape, self.prob, generator, importance.device)

    def check_grid(self, length: int) -> None:
        """Refuses a num that leaves no candidate among L patches."""
        if length // self.num == 0:
            raise UsageError(
                f'AttentionGuidedMasker: num={self.num} leaves no candidate among {length} patches; '
                f'use a num of at most {length}'
            )

    def extra_repr(self) -> str:
        return f'num={self.num}, prob={self.prob}'
