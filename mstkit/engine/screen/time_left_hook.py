"""How long a training still takes, for its log and its screen."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

STEPS = 100  # the newest, of which an estimate is made
BLOCKS = 10


def usual_seconds(newest: Iterable[float]) -> float:
    """The seconds of a usual step: the median of the means of :data:`BLOCKS` parts of the newest steps.

    What comes every few steps, such as a loader that waits for its workers, counts in full; what came once, such as
    a machine that was suspended, does not count.
    """
    seconds = list(newest)
    size = max(1, len(seconds) // BLOCKS)
    means = [statistics.fmean(seconds[start : start + size]) for start in range(0, len(seconds), size)]
    return statistics.median(means)


class TimeLeftHook(Hook):
    """Estimates how long a training still takes, in place of mmengine's mean over the whole run.

    That mean remembers a slow beginning (a compilation, other work on the machine) to the end, and knows nothing of
    what happens between epochs. Here the newest steps count, and what the ends of epochs have taken so far: k-NN,
    validation, checkpoints, and the start of the loader's workers.

    :class:`mstkit.engine.screen.shown_runner.ShownRunner` adds it; a config does not name it.
    """

    priority = 55  # after IterTimerHook (50), which writes its own estimate, and before LoggerHook (60), which reads it

    def __init__(self) -> None:
        self.steps: deque[float] = deque(maxlen=STEPS)
        self.ends: list[float] = []
        self._begun, self._first = 0.0, True  # of the current step
        self._last: float | None = None  # when the step before it ended

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Notes how long the end of an epoch took, up to the first batch of the next one."""
        self._begun, self._first = time.perf_counter(), batch_idx == 0
        if self._first and self._last is not None:
            self.ends.append(self._begun - self._last)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Writes the estimate to the message hub, from which log and screen take it."""
        hub = runner.message_hub
        now = time.perf_counter()
        # The first step of an epoch without the wait for its batch, which belongs to the end of the epoch before.
        self.steps.append(now - self._begun if self._first else float(hub.get_scalar('train/time').current()))
        self._last = now
        hub.update_info('eta', self.seconds_left(runner))

    def seconds_left(self, runner: Runner) -> float:
        """The estimate, in a step of the training."""
        loop = runner.train_loop
        ends = loop.max_epochs - loop.epoch if isinstance(loop, EpochBasedTrainLoop) else 0
        left = (runner.max_iters - runner.iter - 1) * usual_seconds(self.steps)
        return left + (ends * statistics.fmean(self.ends) if self.ends else 0.0)
