"""The teacher: an exponential moving average of the student."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from mmcv.cnn.bricks import DropPath
from torch import nn

from mstkit.errors import UsageError
from mstkit.registry import MODELS
from mstkit.structures import Progress
from mstkit.utils.checks import check_one_of, check_probability
from mstkit.utils.local_shards import local_parts


@MODELS.register_module()
class MomentumTeacher(nn.Module):
    """Copies of the student's parts that follow it: θ_t ← m θ_t + (1 − m) θ_s (MST eq. 1).

    The parts are reached as attributes under their names (``teacher.backbone``). They take no gradient and have no
    dropout or stochastic depth, whatever the student has; otherwise they are in the student's mode, so batch
    normalization in a training teacher uses its own batch, as in DINO.

    Args:
        student: the parts to follow, by name.
        momentum: m at the first step.
        end_momentum: m at the end of the run; it rises by half a cosine, per optimizer step.
        buffers: 'own', the teacher's running statistics come from what it sees itself (DINO, the default); 'copy',
            they are the student's; 'average', they follow the student's like the weights.
        follow: 'after_step', at once after an optimizer step (DINO, the default); 'before_step', when the next
            iteration starts, with that one's momentum (MoBY). Whether it still has to is then in a buffer, so that a
            resumed run follows when the uninterrupted one would have.

    Raises:
        UsageError: a momentum outside [0, 1], a start above the end, or an unknown buffer policy.
    """

    def __init__(
        self,
        student: Mapping[str, nn.Module],
        momentum: float = 0.996,
        end_momentum: float = 1.0,
        buffers: Literal['own', 'copy', 'average'] = 'own',
        follow: Literal['after_step', 'before_step'] = 'after_step',
    ) -> None:
        super().__init__()
        check_probability('MomentumTeacher.momentum', momentum)
        check_probability('MomentumTeacher.end_momentum', end_momentum)
        if not 0 <= momentum <= end_momentum <= 1:
            raise UsageError(
                f'MomentumTeacher: momentum rises from momentum to end_momentum inside [0, 1], '
                f'not from {momentum!r} to {end_momentum!r}'
            )
        check_one_of('MomentumTeacher.buffers', buffers, ('own', 'copy', 'average'))
        self.start_momentum, self.end_momentum, self.buffer_policy = momentum, end_momentum, buffers
        self.momentum = momentum
        self.follow = check_one_of('MomentumTeacher.follow', follow, ('after_step', 'before_step'))
        # Optimizer steps that it has not followed yet; on the host as well, where reading does not wait for the device:
        # None where it has to be read, at the start and after loading.
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
        """The momentum of a step: half a cosine from start to end, as DINO's schedule."""
        share = 0.5 * (1 + math.cos(math.pi * progress.step / progress.total_steps))
        return self.end_momentum - (self.end_momentum - self.start_momentum) * share

    def set_progress(self, progress: Progress) -> None:
        """Sets the momentum for the coming step."""
        self.momentum = self.momentum_at(progress)

    def before_step(self, student: Mapping[str, nn.Module]) -> None:
        """Called when a training iteration starts: follows if that is its time and the optimizer stepped since."""
        if self.pending_steps is None:
            return
        if self._pending is None:
            self._pending = int(self.pending_steps)
        if self._pending:
            self.update(student)
            self.pending_steps.zero_()
            self._pending = 0

    def after_step(self, student: Mapping[str, nn.Module]) -> None:
        """Called after an optimizer step: follows, or notes that it has to."""
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
        """Makes the teacher equal to the student, buffers included; called after the student was initialized."""
        for name, module in student.items():
            own, theirs = _tensors(self.get_submodule(name)), _tensors(module)
            for key, tensor in own.items():
                tensor.copy_(theirs[key])

    @torch.no_grad()
    def update(self, student: Mapping[str, nn.Module]) -> None:
        """Follows the student by one step, all weights in one fused operation.

        Args:
            student: the same parts as at construction.
        """
        own: list[torch.Tensor] = []
        theirs: list[torch.Tensor] = []
        for name, module in student.items():
            part = self.get_submodule(name)
            own += part.parameters()
            theirs += module.parameters()
        # Of weights that are spread over processes, each has the same parts of both networks.
        torch._foreach_lerp_(local_parts(own), local_parts(theirs), 1.0 - self.momentum)
        if self.buffer_policy == 'own':
            return
        for name, module in student.items():
            for mine, other in zip(self.get_submodule(name).buffers(), module.buffers(), strict=True):
                if self.buffer_policy == 'average' and mine.is_floating_point():
                    mine.lerp_(other, 1.0 - self.momentum)
                else:
                    mine.copy_(other)


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    return dict(module.named_parameters()) | dict(module.named_buffers())


def _without_drops(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, DropPath):
            part.drop_prob = 0.0
        elif isinstance(part, nn.modules.dropout._DropoutNd):
            part.p = 0.0
