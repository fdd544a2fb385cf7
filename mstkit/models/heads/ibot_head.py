"""iBOT's loss: the student predicts, for each hidden patch, what the teacher says of the visible one."""

from __future__ import annotations

from torch import Tensor

from mstkit.models.heads.centered_head import CenteredHead
from mstkit.registry import MODELS


@MODELS.register_module()
class IBOTHead(CenteredHead):
    """Cross-entropy of hidden patches within a view (iBOT, Zhou et al., ICLR 2022, eq. 2), with a center of its own.

    Each image counts by the mean over its hidden patches, and the loss is the mean over all images: one without a
    hidden patch adds nothing and is counted all the same. Arguments: :class:`CenteredHead`; ``start_epoch`` is the
    epoch in which masking starts (iBOT's pred_start_epoch).
    """

    def loss(self, student: Tensor, teacher: Tensor, weights: Tensor) -> Tensor:
        """Weighted sum of cross-entropies.

        Args:
            student: (M, K) logits of the M hidden patches.
            teacher: (M, K) logits of the same patches, seen whole.
            weights: (M,), see :func:`patch_weights`.

        Returns:
            Scalar, in nats; 0 where M is.
        """
        log_p = self.teacher_log_probabilities(teacher)
        p = log_p.exp()
        cross = -(p * self.student_log_probabilities(student)).sum(dim=-1) @ weights
        entropy = -(p * log_p).sum(dim=-1) @ weights
        # The weights add up to the share of images with a mask: what is reported is the mean over those.
        share = weights.sum().clamp_min(1e-12)
        self.statistics = {'patch_entropy': entropy / share, 'patch_kl': (cross.detach() - entropy) / share}
        return cross


def patch_weights(hidden: Tensor, places: Tensor) -> Tensor:
    """What each hidden patch weighs: 1 / (hidden patches of its image) / (images).

    Args:
        hidden: (B, L) bool.
        places: (M,) int64, where it is True among B * L; whoever has these has waited for the device already.

    Returns:
        (M,) float32, in the order of the places.
    """
    per_image = hidden.sum(dim=1).clamp_min(1).float().reciprocal() / len(hidden)
    return per_image[places.div(hidden.shape[1], rounding_mode='floor')]
