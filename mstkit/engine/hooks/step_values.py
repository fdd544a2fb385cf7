"""Numbers that a step computes on the device, and the host needs once in a while."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from mmengine.hooks import Hook, LoggerHook
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

    @property
    def free_to_read(self) -> bool:
        """Whether nobody has to wait for them."""
        return all(value.device.type == 'cpu' for value in self._values)

    def read(self) -> list[Step]:
        """The iterations since the last reading, in their order; waits for the device once."""
        read = self.peek()
        self._steps, self._values = [], []
        return read

    def peek(self) -> list[Step]:
        """What the next reading will bring."""
        numbers = iter(torch.stack(self._values).tolist() if self._values else ())
        return [Step(number, epoch, {name: next(numbers) for name in names}) for number, epoch, names in self._steps]


def _scalar(value: Tensor) -> Tensor:
    return value.reshape(()) if value.numel() == 1 else value.mean()


class StepValuesHook(Hook):
    """What hooks share that look at a step's losses: they get them when a line of the log is due, or for nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = StepValues()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Tensor] | None = None
    ) -> None:
        """Keeps the values of ``outputs``, and hands out all that is kept where somebody is about to read them."""
        if outputs:
            self.kept.keep(runner, outputs)
        if self.kept.free_to_read or self._log_is_due(runner, batch_idx):
            self.hand_out(runner)

    def hand_out(self, runner: Runner) -> bool:
        """Gives what is kept to :meth:`take`; whether there was anything."""
        steps = self.kept.read()
        if steps:
            self.take(runner, steps)
        return bool(steps)

    def take(self, runner: Runner, steps: Sequence[Step]) -> None:
        """Looks at the iterations since the last time, one or more, in their order."""
        raise NotImplementedError(f'{type(self).__name__} does not say what it does with values')

    def _log_is_due(self, runner: Runner, batch_idx: int) -> bool:
        logs = (hook for hook in runner.hooks if isinstance(hook, LoggerHook))
        return any(self.every_n_inner_iters(batch_idx, hook.interval) for hook in logs) or self.end_of_epoch(
            runner.train_dataloader, batch_idx
        )
