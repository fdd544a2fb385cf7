"""Keeps scalars of training steps on the device, and copies them to the host in batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from mmengine.hooks import Hook, LoggerHook
from mmengine.runner import Runner
from torch import Tensor


class Step(NamedTuple):
    """The scalars of one iteration; ``iteration`` and ``epoch`` count from 1."""

    iteration: int
    epoch: int
    values: dict[str, float]


class StepValues:
    """Keeps scalars on the device and copies all of them to the host at once.

    Each copy from a GPU waits until the GPU has finished its queue; on the CPU there is no wait.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[int, int, tuple[str, ...]]] = []
        self._values: list[Tensor] = []

    def keep(self, runner: Runner, values: Mapping[str, Any]) -> None:
        """Keeps the scalars of the current iteration; a tensor of several numbers is averaged."""
        self._steps.append((runner.iter + 1, runner.epoch + 1, tuple(values)))
        self._values += [_scalar(torch.as_tensor(value).detach().float()) for value in values.values()]

    @property
    def free_to_read(self) -> bool:
        """Whether all values are on the CPU, so that reading does not wait for a device."""
        return all(value.device.type == 'cpu' for value in self._values)

    def read(self) -> list[Step]:
        """Returns and clears the kept iterations, in their order; waits for the device once."""
        read = self.peek()
        self._steps, self._values = [], []
        return read

    def peek(self) -> list[Step]:
        """Returns the kept iterations without clearing them."""
        numbers = iter(torch.stack(self._values).tolist() if self._values else ())
        return [Step(number, epoch, {name: next(numbers) for name in names}) for number, epoch, names in self._steps]


def _scalar(value: Tensor) -> Tensor:
    return value.reshape(()) if value.numel() == 1 else value.mean()


class StepValuesHook(Hook):
    """Base class of hooks that need the losses: they get them at once on the CPU, else when a log line is due."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = StepValues()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Tensor] | None = None
    ) -> None:
        """Keeps the values of ``outputs``, and passes all to :meth:`take` if that is free or a log line is due."""
        if outputs:
            self.kept.keep(runner, outputs)
        if self.kept.free_to_read or self._log_is_due(runner, batch_idx):
            self.hand_out(runner)

    def hand_out(self, runner: Runner) -> bool:
        """Passes the kept iterations to :meth:`take`; returns whether there were any."""
        steps = self.kept.read()
        if steps:
            self.take(runner, steps)
        return bool(steps)

    def take(self, runner: Runner, steps: Sequence[Step]) -> None:
        """Gets the iterations since the last call, at least one, in their order."""
        raise NotImplementedError(f'{type(self).__name__} has no take()')

    def _log_is_due(self, runner: Runner, batch_idx: int) -> bool:
        logs = (hook for hook in runner.hooks if isinstance(hook, LoggerHook))
        return any(self.every_n_inner_iters(batch_idx, hook.interval) for hook in logs) or self.end_of_epoch(
            runner.train_dataloader, batch_idx
        )
