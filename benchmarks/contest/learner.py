"""A training that is given a budget of time, and how it spends it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from mstkit.errors import UsageError

CLOCKS: dict[str, Callable[[], float]] = {'wall': time.perf_counter, 'cpu': time.process_time}


class Learner(ABC):
    """A training whose schedules follow the share of its budget that is used up.

    Attributes:
        batch: images per step.
        device: of the step.
    """

    batch: int
    device: torch.device

    @abstractmethod
    def batches(self) -> Iterator[Any]:
        """Batches of the training images, shuffled, pass after pass without end."""

    @abstractmethod
    def step(self, batch: Any, share: float) -> float | Tensor:
        """A training step.

        Args:
            batch: of :meth:`batches`.
            share: of the budget that is used up, from 0 to 1.

        Returns:
            The loss.
        """

    @abstractmethod
    def networks(self) -> dict[str, nn.Module]:
        """The networks to be judged by their branch, such as ``student``; each maps normalized images to features."""


def spend(learner: Learner, seconds: float, clock: str = 'wall', say: Callable[[str], None] = print) -> dict[str, Any]:
    """Trains for a fixed time; the first step, which warms up kernels and workers, counts.

    Args:
        learner: the training.
        seconds: of the clock.
        clock: ``'wall'``, or ``'cpu'``: seconds that this process computed, on all its threads, so that a process on
            other cores does not change how far a training comes. Workers of the loader do not count then.
        say: told about the progress, ten times.

    Returns:
        ``images`` and ``steps`` trained, ``seconds`` by this clock, ``wall_seconds`` and ``losses`` on the way.

    Raises:
        UsageError: the loss is not finite.
    """
    now = CLOCKS[clock]
    batches = learner.batches()
    start, wall = now(), time.perf_counter()
    steps, told, losses = 0, 0, []
    while (share := (now() - start) / seconds) < 1:
        loss = learner.step(next(batches), share)
        steps += 1
        if int(10 * share) >= told:
            value = float(loss)
            if value != value or abs(value) == float('inf'):
                raise UsageError(f'the loss is {value} after {steps} steps')
            losses.append(round(value, 4))
            say(f'{100 * share:3.0f} %: {steps * learner.batch} images, loss {value:.4f}')
            told = int(10 * share) + 1
    if learner.device.type == 'cuda':
        torch.cuda.synchronize(learner.device)
    spent, waited = now() - start, time.perf_counter() - wall
    return dict(
        images=steps * learner.batch, steps=steps, seconds=round(spent, 1), wall_seconds=round(waited, 1), losses=losses
    )
