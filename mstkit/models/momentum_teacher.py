"""The teacher: an exponential moving average of the student."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from mmcv.cnn.bricks import DropPath
from mmpretrain.models.utils import MultiheadAttention
from torch import nn

from mstkit.errors import UsageError
from mstkit.registry import MODELS
from mstkit.structures import Progress
from mstkit.utils.checks import check_list, check_one_of, check_probability
from mstkit.utils.local_shards import local_parts

DEFAULTS = (0.996, 1.0)  # DINO's momentum at the start and at the end


@MODELS.register_module()
class MomentumTeacher(nn.Module):
    """Exponential moving average of the student's modules: θ_t ← m θ_t + (1 − m) θ_s (MST eq. 1).

    The copies are attributes under their names (``teacher.backbone``). They have no gradient, dropout or stochastic
    depth. They are in training mode when the student is, so batch normalization uses the statistics of the teacher's
    own batch, as in DINO.

    Args:
        student: the modules to average, by name.
        momentum: m at the first step.
        end_momentum: m at the end of the run; in between it follows half a cosine, per optimizer step.
        schedule: instead of these two, pairs of a share of the run and the momentum there, the first of the share 0; in
            between it follows straight lines, per optimizer step, and after the last it stays.
        buffers: running statistics of the teacher: 'own', from the teacher's own batches (DINO, the default); 'copy',
            those of the student; 'average', a moving average of the student's, like the weights.
        follow: when the teacher is updated: 'after_step', directly after an optimizer step (DINO, the default);
            'before_step', at the start of the next iteration, with the momentum of that iteration (MoBY). For
            'before_step' a buffer records a pending update, so that a resumed run equals an uninterrupted one.

    Raises:
        UsageError: a momentum outside [0, 1], a start above the end, a schedule that does not start at 0, whose shares
            do not increase or whose momentum falls, or that stands beside the two, or an unknown buffer policy.
    """

    def __init__(
        self,
        student: Mapping[str, nn.Module],
        momentum: float = DEFAULTS[0],
        end_momentum: float = DEFAULTS[1],
        buffers: Literal['own', 'copy', 'average'] = 'own',
        follow: Literal['after_step', 'before_step'] = 'after_step',
        schedule: Sequence[tuple[float, float]] | None = None,
    ) -> None:
        super().__init__()
        check_probability('MomentumTeacher.momentum', momentum)
        check_probability('MomentumTeacher.end_momentum', end_momentum)
        self.schedule = None if schedule is None else _checked(schedule)
        if self.schedule is not None:
            if (momentum, end_momentum) != DEFAULTS:
                raise UsageError(
                    f'MomentumTeacher has a schedule, and momentum={momentum!r} and end_momentum={end_momentum!r} '
                    'beside it: give either'
                )
            momentum, end_momentum = self.schedule[0][1], self.schedule[-1][1]
        if not 0 <= momentum <= end_momentum <= 1:
            raise UsageError(
                f'MomentumTeacher: momentum rises from momentum to end_momentum inside [0, 1], '
                f'not from {momentum!r} to {end_momentum!r}'
            )
        check_one_of('MomentumTeacher.buffers', buffers, ('own', 'copy', 'average'))
        self.start_momentum, self.end_momentum, self.buffer_policy = momentum, end_momentum, buffers
        self.momentum = momentum
        self.follow = check_one_of('MomentumTeacher.follow', follow, ('after_step', 'before_step'))
        # Optimizer steps since the last update. `_pending` is a copy on the host, to avoid waiting for the device; None
        # means that it is not known yet (at the start and after loading a checkpoint).
        self.pending_steps: torch.Tensor | None = None
        if follow == 'before_step':
            del self.pending_steps
            self.register_buffer('pending_steps', torch.zeros((), dtype=torch.long))
        self._pending: int | None = None
        for name, module in student.items():
            part = copy.deepcopy(module).requires_grad_(False)
            _without_drops(part)
            self.add_module(name, part)

    def momentum_at(self, progress: Progress) -> float:
        """The momentum of a step: half a cosine from start to end, as in DINO, or by the schedule."""
        if self.schedule is not None:
            return _between(self.schedule, progress.step / progress.total_steps)
        return self.end_momentum - (self.end_momentum - self.start_momentum) * progress.half_cosine

    def set_progress(self, progress: Progress) -> None:
        """Sets the momentum for the coming step."""
        self.momentum = self.momentum_at(progress)

    def before_step(self, student: Mapping[str, nn.Module]) -> None:
        """Called at the start of a training iteration: with ``follow='before_step'``, applies a pending update."""
        if self.pending_steps is None:
            return
        if self._pending is None:
            self._pending = int(self.pending_steps)
        if self._pending:
            self.update(student)
            self.pending_steps.zero_()
            self._pending = 0

    def after_step(self, student: Mapping[str, nn.Module]) -> None:
        """Called after an optimizer step: updates the teacher, or with ``follow='before_step'`` marks it pending."""
        if self.pending_steps is None:
            self.update(student)
            return
        self.pending_steps += 1
        if self._pending is not None:
            self._pending += 1

    def _load_from_state_dict(self, *args: Any, **settings: Any) -> None:
        super()._load_from_state_dict(*args, **settings)
        self._pending = None

    @torch.no_grad()
    def copy_from(self, student: Mapping[str, nn.Module]) -> None:
        """Copies the student's weights and buffers; called after the student was initialized."""
        for name, module in student.items():
            own, theirs = _tensors(self.get_submodule(name)), _tensors(module)
            for key, tensor in own.items():
                tensor.copy_(theirs[key])

    @torch.no_grad()
    def update(self, student: Mapping[str, nn.Module]) -> None:
        """Applies one step of the moving average, all weights in one fused operation.

        Args:
            student: the same modules as at construction.
        """
        own: list[torch.Tensor] = []
        theirs: list[torch.Tensor] = []
        for name, module in student.items():
            part = self.get_submodule(name)
            own += part.parameters()
            theirs += module.parameters()
        # With FSDP the weights are sharded alike in both networks, so each rank averages its own shards.
        torch._foreach_lerp_(local_parts(own), local_parts(theirs), 1.0 - self.momentum)
        if self.buffer_policy == 'own':
            return
        for name, module in student.items():
            for mine, other in zip(self.get_submodule(name).buffers(), module.buffers(), strict=True):
                if self.buffer_policy == 'average' and mine.is_floating_point():
                    mine.lerp_(other, 1.0 - self.momentum)
                else:
                    mine.copy_(other)


def _checked(schedule: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The schedule as a list of pairs. Raises UsageError for one that is none."""
    name = 'MomentumTeacher.schedule'
    pairs = check_list(name, schedule, check_list, check_probability)
    shares, momenta = [pair[0] for pair in pairs], [pair[-1] for pair in pairs]
    wrong = any(len(pair) != 2 for pair in pairs) or shares[0] != 0 or momenta != sorted(momenta)
    if wrong or shares != sorted(set(shares)):
        raise UsageError(
            f'{name} is {schedule!r}: give pairs of a share of the run, increasing from 0, and a momentum that does '
            'not fall, such as [(0.0, 0.999), (0.5, 0.9999)]'
        )
    return list(zip(shares, momenta, strict=True))


def _between(schedule: list[tuple[float, float]], share: float) -> float:
    """The value at a share of the run, on the straight lines between the pairs; constant after the last."""
    for (start, low), (end, high) in pairwise(schedule):
        if share < end:
            return low + (high - low) * (share - start) / (end - start)
    return schedule[-1][1]


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    return dict(module.named_parameters()) | dict(module.named_buffers())


def _without_drops(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, DropPath):
            part.drop_prob = 0.0
        elif isinstance(part, nn.modules.dropout._DropoutNd):
            part.p = 0.0
        elif isinstance(part, MultiheadAttention):  # keeps the rate of its attention as a number
            part.attn_drop = 0.0
