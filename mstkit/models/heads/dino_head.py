"""DINO's loss: the student predicts the teacher's centered, sharpened assignment of another view."""

from __future__ import annotations

from torch import Tensor

from mstkit.errors import UsageError
from mstkit.models.heads.centered_head import CenteredHead
from mstkit.registry import MODELS


@MODELS.register_module()
class DINOHead(CenteredHead):
    """Cross-entropy over pairs of different views, with a center that keeps the teacher from collapsing.

    MST's eq. 2, with DINO's centering, sharpening and mean (MST follows DINO's temperatures and never mentions the
    center, without which its algorithm 2 would collapse). Arguments: :class:`CenteredHead`.
    """

    def loss(self, student: Tensor, teacher: Tensor, views: int, teacher_views: int = 2) -> Tensor:
        """Mean cross-entropy over all pairs of a teacher's view and another view of the student's.

        The double loop of eq. 2 is written as sums: the student's log-probabilities are added over all views once,
        and each teacher view takes its own out of that sum.

        Args:
            student: (V*B, K) logits, view by view, the teacher's views first.
            teacher: (T*B, K) logits, view by view.
            views: V.
            teacher_views: T.

        Returns:
            Scalar, in nats.
        """
        if views < 2:
            raise UsageError(f'the cross-view loss needs two views or more, not {views}')
        log_q = self.student_log_probabilities(student).view(views, -1, self.out_dim)
        log_p = self.teacher_log_probabilities(teacher).view(teacher_views, -1, self.out_dim)
        p = log_p.exp()
        others = log_q.sum(dim=0, keepdim=True) - log_q[:teacher_views]
        cross = -(p * others).sum() / (teacher_views * (views - 1) * log_q.shape[1])
        self.remember(teacher.detach().float().sum(dim=0, keepdim=True), len(teacher))
        entropy = -(p * log_p).sum().detach() / p[..., 0].numel()
        self.statistics = {'teacher_entropy': entropy, 'kl': cross.detach() - entropy}
        return cross
