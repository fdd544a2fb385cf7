"""Stops a run whose loss or weights are no longer finite, before the damage reaches a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import torch
from mmengine import dist
from mmengine.runner import Runner, find_latest_checkpoint
from torch import Tensor

from mstkit.engine.step_values import Step, StepValuesHook
from mstkit.registry import HOOKS

REMEDIES = (
    'What helps: resume from that checkpoint with a lower learning rate or a longer warm-up, clip gradients harder, '
    'use bf16 or fp32 instead of fp16, and look for images that are broken or blank.'
)


class NonFiniteLossError(RuntimeError):
    """The training diverged; the message says where, and what to go back to."""


@HOOKS.register_module()
class NonFiniteLossHook(StepValuesHook):
    """Raises :class:`NonFiniteLossError` at the first loss term that is NaN or infinite, on every rank at once.

    The weights have been updated with that loss already, so nothing may be saved after it: the hook runs before every
    hook that saves. On a GPU the losses are read once per interval of the log, so that no step waits; the message
    names the first iteration that was broken all the same. For gradients that overflow under a finite loss, it also
    looks at every checkpoint just before it is written.
    """

    priority = 'VERY_HIGH'

    def take(self, runner: Runner, steps: Sequence[Step]) -> None:
        """Looks at the loss terms: on a CPU at once, on a device when they are read for the log anyway."""
        broken_anywhere = torch.tensor([float(bool(_broken(step))) for step in steps])
        dist.all_reduce(broken_anywhere, op='max')
        for step, anywhere in zip(steps, broken_anywhere.tolist(), strict=True):
            if anywhere:
                self._stop(runner, step)

    def _stop(self, runner: Runner, step: Step) -> NoReturn:
        broken = _broken(step)
        # The sum of all terms is broken whenever one of them is: name it only where it is alone.
        named = {name: value for name, value in broken.items() if name != 'loss'} or broken
        what = ', '.join(f'{name} = {value}' for name, value in named.items()) or 'a loss term of another rank'
        raise NonFiniteLossError(
            f'the loss is no longer finite: {what}, at iteration {step.iteration} (epoch {step.epoch}). '
            f'{self._last_good(runner)} {REMEDIES}'
        )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuses to write weights that are not finite, or that come after a loss that was not."""
        # One rank alone may be here: it looks at its own values, and leaves them to be read by all ranks together.
        for step in self.kept.peek():
            if _broken(step):
                self._stop(runner, step)
        for name, value in checkpoint['state_dict'].items():
            if isinstance(value, Tensor) and value.is_floating_point() and not torch.isfinite(value).all():
                raise NonFiniteLossError(
                    f'the weights are no longer finite, first {name}, at iteration {runner.iter} '
                    f'(epoch {runner.epoch + 1}); no checkpoint is written. {self._last_good(runner)} {REMEDIES}'
                )

    @staticmethod
    def _last_good(runner: Runner) -> str:
        path = find_latest_checkpoint(runner.work_dir) if Path(runner.work_dir).is_dir() else None
        if path is None:
            return 'No checkpoint had been written yet.'
        return f'The last good checkpoint is {path}.'


def _broken(step: Step) -> dict[str, float]:
    return {name: value for name, value in step.values.items() if not math.isfinite(value)}
