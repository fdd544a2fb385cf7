"""MST: masked self-supervised transformer for visual representation (arXiv 2106.05656)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from mstkit.models.algorithms.self_distillation import SelfDistillation, as_map
from mstkit.registry import MODELS
from mstkit.structures import TokenOutput


@MODELS.register_module()
class MSTAlgorithm(SelfDistillation):
    """Self-distillation with least-attended patches hidden, and the whole picture restored from what is left.

    L = λ1 L_CE + λ2 L_restoring (eq. 11), the second being the mean absolute error over all pixels of the global
    views as the student saw them, hidden or not (eq. 9). The decoder belongs to the student alone and is dropped
    after pre-training. Both losses are means: with the sums that the paper's algorithm 2 prints, its λ would have no
    meaning.

    Args:
        decoder: tokens to pictures; None leaves the restoration out (the paper's table 4).
        loss_weight_ce: λ1.
        loss_weight_restore: λ2.
        **kwargs: see :class:`SelfDistillation`.
    """

    def __init__(
        self,
        *,
        decoder: dict | None = None,
        loss_weight_ce: float = 1.0,
        loss_weight_restore: float = 0.6,
        **kwargs,
    ) -> None:
        super().__init__(loss_weight_ce=loss_weight_ce, **kwargs)
        sizes = dict(in_channels=self.backbone.feature_dims, stride=self.backbone.stride)
        self.decoder = None if decoder is None else MODELS.build(decoder, default_args=sizes)
        self.loss_weight_restore = loss_weight_restore

    def more_losses(self, images: Tensor, student: TokenOutput, mask: Tensor | None) -> dict[str, Tensor]:
        """L_restoring; see :meth:`SelfDistillation.more_losses`."""
        restored = self.restore(student, views=self.global_views)
        if restored is None:
            return {}
        return {'loss_restore': self.loss_weight_restore * F.l1_loss(restored.float(), images.float())}

    def restore(self, student: TokenOutput, views: int = 1) -> Tensor | None:
        """See :meth:`SelfDistillation.restore`."""
        return None if self.decoder is None else self.decoder(as_map(student), views)
