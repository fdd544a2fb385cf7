"""DINO's loss: the student predicts the teacher's centered, sharpened assignment of another view."""

from __future__ import annotations

import torch
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.models.heads.centered_head import CenteredHead
from mstkit.registry import MODELS


@MODELS.register_module()
class DINOHead(CenteredHead):
    """Cross-entropy between teacher and student over pairs of different views (DINO eq. 3, MST eq. 2).

    Centering, sharpening and the mean over pairs are DINO's. (MST takes over DINO's temperatures and does not mention
    the center, but without it training collapses.) Arguments: :class:`CenteredHead`.
    """

    def loss(self, student: Tensor, teacher: Tensor, views: int, teacher_views: int = 2, copies: int = 1) -> Tensor:
        """Mean cross-entropy over all pairs of a teacher's view and another view of the student's.

        Instead of a double loop over views, the student's log-probabilities are summed over all views once, and for
        each teacher view the student's log-probabilities of the same view are subtracted.

        Args:
            student: (V*B, K) logits, view by view, the teacher's views first; with M copies of these, differently
                masked, ((M*T + V - T)*B, K), copy by copy.
            teacher: (T*B, K) logits, view by view.
            views: V.
            teacher_views: T.
            copies: M. The loss is the mean over copies of that of one copy and the views that have none.

        Returns:
            Scalar, in nats.
        """
        if views < 2:
            raise UsageError(f'the cross-view loss needs two views or more, not {views}')
        log_q = self.student_log_probabilities(student).unflatten(
            0, (copies * teacher_views + views - teacher_views, -1)
        )
        if copies > 1:
            # The loss is linear in these, so that its mean is the loss of their mean.
            masked, local = log_q.split([copies * teacher_views, views - teacher_views])
            log_q = torch.cat([masked.unflatten(0, (copies, teacher_views)).mean(dim=0), local])  # (V, B, K)
        log_p = self.teacher_log_probabilities(teacher).view(teacher_views, -1, self.out_dim)  # (T, B, K)
        p = log_p.exp()
        others = log_q.sum(dim=0, keepdim=True) - log_q[:teacher_views]  # (T, B, K)
        cross = -(p * others).sum() / (teacher_views * (views - 1) * log_q.shape[1])
        self.remember(teacher.detach().float().sum(dim=0, keepdim=True), len(teacher))
        entropy = -(p * log_p).sum().detach() / p[..., 0].numel()
        self.statistics = {'teacher_entropy': entropy, 'kl': cross.detach() - entropy}
        return cross
