"""MST: masked self-supervised transformer for visual representation (arXiv 2106.05656)."""

from __future__ import annotations

from mstkit.models.algorithms.self_distillation import SelfDistillation
from mstkit.registry import MODELS


@MODELS.register_module()
class MSTAlgorithm(SelfDistillation):
    """Self-distillation with least-attended patches hidden, and the whole picture restored from what is left.

    L = λ1 L_CE + λ2 L_restoring (eq. 11), the second being the mean absolute error over all pixels of the global
    views as the student saw them, hidden or not (eq. 9). Both losses are means: with the sums that the paper's
    algorithm 2 prints, its λ would have no meaning.

    Args:
        loss_weight_ce: λ1.
        loss_weight_restore: λ2.
        mask_token_std: what the [MASK] embedding starts as: a truncated normal, 0.02, as BEiT's; the paper is silent.
        mask_token_decay: whether weight decay reaches it; it does not.
        **kwargs: see :class:`SelfDistillation`; without a ``decoder`` there is no restoration (the paper's table 4).
    """

    def __init__(
        self,
        *,
        loss_weight_ce: float = 1.0,
        loss_weight_restore: float = 0.6,
        mask_token_std: float = 0.02,
        mask_token_decay: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(
            loss_weight_ce=loss_weight_ce,
            loss_weight_restore=loss_weight_restore,
            mask_token_std=mask_token_std,
            mask_token_decay=mask_token_decay,
            **kwargs,
        )
