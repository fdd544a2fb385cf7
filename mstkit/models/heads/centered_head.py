"""Base class of DINO's and iBOT's losses: centering and sharpening of the teacher's logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from mmengine import dist
from torch import Tensor, nn
from torch.nn import functional as F

from mstkit.models.heads.sinkhorn import sinkhorn_log_assignments
from mstkit.structures import Progress
from mstkit.utils.checks import check_count, check_number, check_one_of, check_size, check_temperature

LARGEST_OUT_DIM = 2**22  # prototypes; the published methods have 2**13 to 2**16


class CenteredHead(nn.Module):
    """DINO's centering and temperatures (Caron et al., ICCV 2021), for a loss on logits. Computes in float32.

    Args:
        out_dim: K prototypes.
        student_temp: temperature of the student.
        teacher_temp: temperature of the teacher after its warm-up.
        warmup_teacher_temp: temperature of the teacher at the start of its warm-up; None for ``teacher_temp``.
        warmup_teacher_temp_epochs: length of the linear warm-up; the temperature changes once per epoch.
        center_momentum: momentum of the center's moving average, applied once per optimizer step; unused by 'sinkhorn'.
        start_epoch: the epoch in which the temperature's warm-up starts.
        centering: what keeps all images from one prototype: 'mean', DINO's center, subtracted from the teacher's
            logits; 'sinkhorn', as in DINOv2 and DINOv3: the teacher's assignments of an iteration, over all ranks, use
            every prototype alike (see :func:`sinkhorn_log_assignments`). Then there is no center, in checkpoints
            neither.
        sinkhorn_iterations: of 'sinkhorn'.

    Raises:
        UsageError: a temperature that is not positive, a momentum outside [0, 1), a negative epoch, no known centering.
    """

    center: Tensor

    def __init__(
        self,
        out_dim: int = 65536,
        student_temp: float = 0.1,
        teacher_temp: float = 0.04,
        warmup_teacher_temp: float | None = None,
        warmup_teacher_temp_epochs: int = 0,
        center_momentum: float = 0.9,
        start_epoch: int = 0,
        centering: Literal['mean', 'sinkhorn'] = 'mean',
        sinkhorn_iterations: int = 3,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        warmup_teacher_temp = teacher_temp if warmup_teacher_temp is None else warmup_teacher_temp
        temperatures = dict(
            student_temp=student_temp, teacher_temp=teacher_temp, warmup_teacher_temp=warmup_teacher_temp
        )
        for key, value in temperatures.items():
            check_temperature(f'{name}.{key}', value)
        check_number(f'{name}.center_momentum', center_momentum, 0, below=1)
        check_count(f'{name}.warmup_teacher_temp_epochs', warmup_teacher_temp_epochs, 0)
        check_count(f'{name}.start_epoch', start_epoch, 0)
        self.out_dim = check_size(f'{name}.out_dim', out_dim, high=LARGEST_OUT_DIM)
        self.student_temp = student_temp
        self.final_teacher_temp = teacher_temp
        self.warmup_teacher_temp = warmup_teacher_temp
        self.warmup_teacher_temp_epochs = warmup_teacher_temp_epochs
        self.start_epoch = start_epoch
        self.center_momentum = center_momentum
        self.teacher_temp = self.teacher_temp_at(0)
        self.centering = check_one_of(f'{name}.centering', centering, ('mean', 'sinkhorn'))
        self.sinkhorn_iterations = check_count(f'{name}.sinkhorn_iterations', sinkhorn_iterations, 1, 100)
        self.register_buffer('center', torch.zeros(1, out_dim) if centering == 'mean' else None)
        # (sum of logits, count) of each iteration since the last optimizer step; step() moves the center by them.
        self._pending: list[tuple[Tensor, int]] = []
        self.statistics: dict[str, Tensor] = {}

    def teacher_temp_at(self, epoch: int) -> float:
        """The teacher's temperature in an epoch, from 0: linear over the warm-up, both ends included."""
        warmup, epoch = self.warmup_teacher_temp_epochs, max(0, epoch - self.start_epoch)
        if epoch >= warmup:
            return self.final_teacher_temp
        share = epoch / (warmup - 1) if warmup > 1 else 0.0
        return self.warmup_teacher_temp + share * (self.final_teacher_temp - self.warmup_teacher_temp)

    def set_progress(self, progress: Progress) -> None:
        """Sets the teacher's temperature for the coming step."""
        self.teacher_temp = self.teacher_temp_at(progress.epoch)

    def teacher_log_probabilities(self, logits: Tensor) -> Tensor:
        """The teacher's assignments: (..., K) logits to the logarithms of (..., K) probabilities, float32, no gradient.

        log softmax((logits - center) / teacher_temp) with a center; with 'sinkhorn' all ranks have to call it at once.
        """
        logits = logits.detach().float()
        if self.centering == 'mean':
            return F.log_softmax((logits - self.center) / self.teacher_temp, dim=-1)
        scores = logits.reshape(-1, self.out_dim) / self.teacher_temp
        return sinkhorn_log_assignments(scores, self.sinkhorn_iterations).view(logits.shape)

    def student_log_probabilities(self, logits: Tensor) -> Tensor:
        """log softmax(logits / student_temp): (..., K) logits to (..., K) float32."""
        return F.log_softmax(logits.float() / self.student_temp, dim=-1)

    def remember(self, total: Tensor, count: int) -> None:
        """Adds an iteration's teacher logits to the next update of the center; in training mode only.

        Args:
            total: (1, K), sum of the logits over samples.
            count: number of samples.
        """
        if self.training and self.centering == 'mean':
            self._pending.append((total.detach().float(), count))

    def step(self) -> None:
        """Moves the center by the mean of all teacher logits since the last step, over all ranks (DINO eq. 4)."""
        step_together([self])

    def _collect(self) -> Tensor:
        """Sum of the logits since the last step and their number, (K + 1,)."""
        total = torch.cat([s for s, _ in self._pending]).sum(dim=0)
        count = total.new_full((1,), float(sum(n for _, n in self._pending)))  # filled there: no copy from the host
        self._pending.clear()
        return torch.cat((total, count))

    def _follow(self, packed: Tensor) -> None:
        self.center.lerp_((packed[:-1] / packed[-1]).unsqueeze(0), 1 - self.center_momentum)

    @property
    def uniform_loss(self) -> float:
        """The loss of uniform predictions, ln K, at which a collapsed run stays."""
        return math.log(self.out_dim)


@torch.no_grad()
def step_together(heads: Sequence[CenteredHead]) -> None:
    """Updates the centers of several heads, see :meth:`CenteredHead.step`, with a single all-reduce."""
    heads = [head for head in heads if head._pending]
    if not heads:
        return
    parts = [head._collect() for head in heads]
    packed = torch.cat(parts)
    dist.all_reduce(packed)
    for head, sums in zip(heads, packed.split([len(part) for part in parts]), strict=True):
        head._follow(sums)
