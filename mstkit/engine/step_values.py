"""Numbers that a step computes on the device, and the host needs once in a while."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from mmengine.hooks import LoggerHook
from mmengine.runner import Runner
from torch import Tensor


class Step(NamedTuple):
    """The numbers of one iteration; it and its epoch count from 1."""

    iteration: int
    epoch: int
    values: dict[str, float]


class StepValues:
    """Keeps scalars where they are until somebody has to know them, and brings them over all at once.

    To read one is to wait for everything that the device was told to do. On a CPU there is nothing to wait for.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[int, int, tuple[str, ...]]] = []
        self._values: list[Tensor] = []

    def keep(self, runner: Runner, values: Mapping[str, Any]) -> None:
        """Remembers the scalars of the current iteration; a tensor of several numbers counts by its mean."""
        self._steps.append((runner.iter + 1, runner.epoch + 1, tuple(values)))
        self._values += [_scalar(torch.as_tensor(value).detach().float()) for value in values.values()]

    def due(self, runner: Runner, batch_idx: int) -> bool:
        """Whether somebody has to know them after this iteration: a log, the end of the epoch, or no reason to wait."""
        if _free_to_read(self._values):
            return True
        logs = [hook for hook in runner.hooks if isinstance(hook, LoggerHook)]
        return any(hook.every_n_inner_iters(batch_idx, hook.interval) for hook in logs) or LoggerHook().end_of_epoch(
            runner.train_dataloader, batch_idx
        )

    def read(self) -> list[Step]:
        """The iterations since the last reading, in their order; waits for the device once."""
        read = self.peek()
        self._steps, self._values = [], []
        return read

    def peek(self) -> list[Step]:
        """What the next reading will bring."""
        if not self._steps:
            return []
        numbers = iter(torch.stack(self._values).tolist() if self._values else ())
        return [Step(number, epoch, {name: next(numbers) for name in names}) for number, epoch, names in self._steps]


def _free_to_read(values: Sequence[Tensor]) -> bool:
    return all(value.device.type == 'cpu' for value in values)


def _scalar(value: Tensor) -> Tensor:
    return value.reshape(()) if value.numel() == 1 else value.mean()
