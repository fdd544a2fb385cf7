"""DINO's loss: the student predicts the teacher's centred, sharpened assignment of another view."""

from __future__ import annotations

import math

import torch
from mmengine import dist
from torch import Tensor, nn
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.registry import MODELS
from mstkit.structures import Progress


@MODELS.register_module()
class DINOHead(nn.Module):
    """Cross-entropy over pairs of different views, with a centre that keeps the teacher from collapsing.

    MST's eq. 2, with DINO's centring, sharpening and mean (MST follows DINO's temperatures and never mentions the
    centre, without which its algorithm 2 would collapse). Everything is computed in float32.

    Args:
        out_dim: K prototypes.
        student_temp: temperature of the student.
        teacher_temp: temperature of the teacher after its warm-up.
        warmup_teacher_temp: temperature of the teacher at the start; ``teacher_temp`` where it is not given.
        warmup_teacher_temp_epochs: epochs over which it rises linearly, changing once an epoch.
        centre_momentum: share of the old centre that is kept at each optimizer step.

    Raises:
        UsageError: a temperature that is not positive, a momentum outside [0, 1).
    """

    centre: Tensor

    def __init__(
        self,
        out_dim: int = 65536,
        student_temp: float = 0.1,
        teacher_temp: float = 0.04,
        warmup_teacher_temp: float | None = None,
        warmup_teacher_temp_epochs: int = 0,
        centre_momentum: float = 0.9,
    ) -> None:
        super().__init__()
        warmup_teacher_temp = teacher_temp if warmup_teacher_temp is None else warmup_teacher_temp
        temperatures = dict(
            student_temp=student_temp, teacher_temp=teacher_temp, warmup_teacher_temp=warmup_teacher_temp
        )
        for name, value in temperatures.items():
            if not value > 0:
                raise UsageError(f'DINOHead: {name} is a positive number, not {value!r}')
        if not 0 <= centre_momentum < 1:
            raise UsageError(f'DINOHead: centre_momentum is in [0, 1), not {centre_momentum!r}')
        if warmup_teacher_temp_epochs < 0:
            raise UsageError(f'DINOHead: warmup_teacher_temp_epochs is not negative: {warmup_teacher_temp_epochs!r}')
        self.out_dim = out_dim
        self.student_temp = student_temp
        self.final_teacher_temp = teacher_temp
        self.warmup_teacher_temp = warmup_teacher_temp
        self.warmup_teacher_temp_epochs = warmup_teacher_temp_epochs
        self.centre_momentum = centre_momentum
        self.teacher_temp = self.teacher_temp_at(0)
        self.register_buffer('centre', torch.zeros(1, out_dim))
        # What the steps of one accumulation saw, until step() folds it into the centre.
        self._pending: list[tuple[Tensor, int]] = []
        self.statistics: dict[str, Tensor] = {}

    def teacher_temp_at(self, epoch: int) -> float:
        """The teacher's temperature in an epoch, from 0: linear over the warm-up, both ends included."""
        warmup = self.warmup_teacher_temp_epochs
        if epoch >= warmup:
            return self.final_teacher_temp
        share = epoch / (warmup - 1) if warmup > 1 else 0.0
        return self.warmup_teacher_temp + share * (self.final_teacher_temp - self.warmup_teacher_temp)

    def set_progress(self, progress: Progress) -> None:
        """Sets the teacher's temperature for the coming step."""
        self.teacher_temp = self.teacher_temp_at(progress.epoch)

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
        teacher = teacher.detach().float()
        log_q = F.log_softmax(student.float() / self.student_temp, dim=-1).view(views, -1, self.out_dim)
        log_p = F.log_softmax((teacher - self.centre) / self.teacher_temp, dim=-1).view(teacher_views, -1, self.out_dim)
        p = log_p.exp()
        others = log_q.sum(dim=0, keepdim=True) - log_q[:teacher_views]
        cross = -(p * others).sum() / (teacher_views * (views - 1) * log_q.shape[1])
        if self.training:
            self._pending.append((teacher.sum(dim=0, keepdim=True), len(teacher)))
        entropy = -(p * log_p).sum().detach() / p[..., 0].numel()
        self.statistics = {'teacher_entropy': entropy, 'kl': cross.detach() - entropy}
        return cross

    @torch.no_grad()
    def step(self) -> None:
        """Moves the centre by the mean of all teacher logits since the last step, over all ranks (DINO eq. 4)."""
        if not self._pending:
            return
        total = torch.cat([s for s, _ in self._pending]).sum(dim=0)
        count = total.new_tensor([float(sum(n for _, n in self._pending))])
        self._pending.clear()
        packed = torch.cat((total, count))
        dist.all_reduce(packed)
        self.centre.lerp_((packed[:-1] / packed[-1]).unsqueeze(0), 1 - self.centre_momentum)

    @property
    def uniform_loss(self) -> float:
        """The loss of a student that predicts nothing, ln K: where a collapsed run sits."""
        return math.log(self.out_dim)
