"""iBOT's loss: for each hidden patch, the student predicts the teacher's assignment of the same, visible patch."""

from __future__ import annotations

from torch import Tensor

from mstkit.models.heads.centered_head import CenteredHead
from mstkit.registry import MODELS


@MODELS.register_module()
class IBOTHead(CenteredHead):
    """Cross-entropy of hidden patches within a view (iBOT, Zhou et al., ICLR 2022, eq. 2), with its own center.

    The mean over the hidden patches of each image, then the mean over all images, where an image without hidden
    patches counts as 0. Arguments: :class:`CenteredHead`; ``start_epoch`` is the epoch in which masking starts
    (iBOT's pred_start_epoch).

    Attributes:
        errors: the cross-entropies of the last call, (M,), without gradient.
    """

    errors: Tensor

    def loss(self, student: Tensor, teacher: Tensor, weights: Tensor) -> Tensor:
        """Weighted sum of cross-entropies.

        Args:
            student: (M, K) logits of the M hidden patches.
            teacher: (M, K) logits of the same patches in the unmasked images.
            weights: (M,), see :func:`patch_weights`.

        Returns:
            Scalar, in nats; 0 if M is 0.
        """
        log_p = self.teacher_log_probabilities(teacher)
        p = log_p.exp()
        errors = self.cross_entropies(student, p)
        cross, self.errors = errors @ weights, errors.detach()
        entropy = -(p * log_p).sum(dim=-1) @ weights
        # The weights add up to the share of images with hidden patches; the statistics are means over these images.
        share = weights.sum().clamp_min(1e-12)
        self.statistics = {'patch_entropy': entropy / share, 'patch_kl': (cross.detach() - entropy) / share}
        return cross

    def cross_entropies(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Of each patch in nats: (M, K) logits of the student and (M, K) probabilities of the teacher to (M,)."""
        return -(teacher * self.student_log_probabilities(student)).sum(dim=-1)


def patch_weights(hidden: Tensor, places: Tensor) -> Tensor:
    """Weight of each hidden patch in the loss: 1 / (hidden patches of its image) / (images).

    Args:
        hidden: (B, L) bool.
        places: (M,) int64, indices of the hidden patches among B * L. Passed in because computing them makes the host
            wait for the GPU.

    Returns:
        (M,) float32, in the order of ``places``.
    """
    per_image = hidden.sum(dim=1).clamp_min(1).float().reciprocal() / len(hidden)
    return per_image[places.div(hidden.shape[1], rounding_mode='floor')]
