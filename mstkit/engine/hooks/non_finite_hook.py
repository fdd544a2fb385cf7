"""Stops a run whose loss or weights are no longer finite, before they are written to a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from mmengine import dist
from mmengine.runner import Runner
from torch import Tensor

from mstkit.engine.checkpoints.non_finite_file import leave_record
from mstkit.engine.checkpoints.resumable_runner import ResumableRunner
from mstkit.engine.checkpoints.run_ending import NonFiniteLossError, log_why_it_stopped
from mstkit.engine.hooks.divergence_advice import what_helps
from mstkit.engine.hooks.step_values import Step, StepValuesHook
from mstkit.engine.parallel.distributed import unwrapped
from mstkit.registry import HOOKS
from mstkit.utils.finite_numbers import infinite_by_design, not_finite, terms_of


@HOOKS.register_module()
class NonFiniteLossHook(StepValuesHook):
    """Raises :class:`NonFiniteLossError` at the first loss term that is NaN or infinite, on every rank at once.

    The weights have been updated with that loss already, so nothing may be saved afterwards: the hook runs before
    every hook that saves. On a GPU the losses are read once per log interval, so that no step waits for the device;
    the message still names the first bad iteration. Because gradients may overflow although the loss is finite, the
    weights are checked too: at the end of an epoch, before validations and before any checkpoint is written.

    :class:`mstkit.engine.runner.mst_runner.MSTRunner` adds it to every training; ``default_hooks.non_finite=None``
    switches it off. It also works with mmengine's own Runner.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        super().__init__()
        self._infinite_by_design: frozenset[str] = frozenset()
        self._iteration = 0  # the last one, counted from 1; inside of an iteration the runner's own is one behind

    def before_train(self, runner: Runner) -> None:
        """Finds buffers that are infinite by design, such as a mask that is added to attention scores."""
        self._infinite_by_design = infinite_by_design(unwrapped(runner.model))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Tensor] | None = None
    ) -> None:
        """Keeps the loss terms of the step; other values, such as an accuracy, may be undefined and are ignored."""
        self._iteration = runner.iter + 1
        losses = {name: value for name, value in (outputs or {}).items() if 'loss' in name}
        super().after_train_iter(runner, batch_idx, data_batch, losses)

    def after_train_epoch(self, runner: Runner) -> None:
        """Stops before hooks measure, draw or save weights that are not finite."""
        self._check_weights(runner)

    def before_val(self, runner: Runner) -> None:
        """Stops before a validation with weights that are not finite, in a run that counts in iterations."""
        self._check_weights(runner)

    def after_train(self, runner: Runner) -> None:
        """Checks the last steps, which may have come after the last line of the log."""
        self.hand_out(runner)
        self._check_weights(runner)

    def take(self, runner: Runner, steps: Sequence[Step]) -> None:
        """Checks the loss terms of some steps on all ranks together."""
        broken_anywhere = torch.tensor([float(bool(_broken(step))) for step in steps])
        dist.all_reduce(broken_anywhere, op='max')
        for step, anywhere in zip(steps, broken_anywhere.tolist(), strict=True):
            if anywhere:
                self._stop(runner, step)

    def _stop(self, runner: Runner, step: Step) -> NoReturn:
        named = terms_of(_broken(step))
        what = ', '.join(f'{name} = {value}' for name, value in named.items()) or 'a loss term of another rank'
        _raise_stop(
            runner,
            f'the loss is no longer finite: {what}, at iteration {step.iteration} (epoch {step.epoch}).',
            what,
            step.iteration,
        )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuses to write weights that are not finite, or that were updated with a loss that is not."""
        # May run on a single rank, which then checks only its own values and keeps them for the check on all ranks.
        for step in self.kept.peek():
            if _broken(step):
                self._stop(runner, step)
        self._stop_at(runner, not_finite(checkpoint['state_dict']))

    def _check_weights(self, runner: Runner) -> None:
        """Checks the weights on all ranks together; called by all."""
        own = unwrapped(runner.model).state_dict()
        found = [name for name in not_finite(own) if name not in self._infinite_by_design]
        everywhere: list[list[str]] = dist.all_gather_object(found[:1])
        self._stop_at(runner, [name for of_rank in everywhere for name in of_rank])

    def _stop_at(self, runner: Runner, names: Sequence[str]) -> None:
        names = [name for name in names if name not in self._infinite_by_design]
        if names:
            iteration = self._iteration or runner.iter
            _raise_stop(
                runner,
                f'the weights are no longer finite, first {names[0]}, at iteration {iteration} '
                f'(epoch {runner.epoch + 1}); no checkpoint is written.',
                f'weights that are not finite, first {names[0]}',
                iteration,
            )


def _raise_stop(runner: Runner, message: str, reason: str, iteration: int) -> NoReturn:
    """Raises the error, after logging it if the Runner does not."""
    message = f'{message} {what_helps(runner)}'
    if isinstance(runner, ResumableRunner):
        raise NonFiniteLossError(f'{message} {leave_record(runner, reason, iteration)}')
    error = NonFiniteLossError(message)  # ResumableRunner logs any error itself
    log_why_it_stopped(runner, error)
    raise error


def _broken(step: Step) -> dict[str, float]:
    return {name: value for name, value in step.values.items() if not math.isfinite(value)}
