"""Reports that a training stopped before its end: in the log, in the record of events, and as an error message."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.runner import Runner

from mstkit.engine.checkpoints.newest_checkpoint import named_last
from mstkit.engine.checkpoints.run_events import DIVERGED, FAILED, INTERRUPTED, record_stop
from mstkit.engine.checkpoints.what_was_lost import dead_worker, lost_connection, what_ran_out
from mstkit.errors import DiskError, StoppedBySignal, UsageError, WorkStopped, disk_is_full
from mstkit.utils.files import free_space

_SAME_SIGNAL = 3.0  # seconds


class EndsInsideEpochs:
    """Mixin of a training loop that can be resumed inside an epoch, so that it may end there."""


class NonFiniteLossError(WorkStopped):
    """The training diverged; the message says where, and which checkpoint is good."""


def log_why_it_stopped(runner: Runner, error: BaseException) -> None:
    """Writes where and why a training stopped to its log and its record of events."""
    reason = _reason(error)
    try:
        iteration, epoch = runner.iter, runner.epoch + 1
    except UsageError:  # the loop that counts cannot be built
        iteration, epoch = 0, 1
    runner.logger.error(f'the run stopped at iteration {iteration} (epoch {epoch}): {reason}')
    kind = FAILED
    if isinstance(error, NonFiniteLossError):
        kind = DIVERGED
    elif isinstance(error, KeyboardInterrupt | StoppedBySignal):
        kind = INTERRUPTED
    with contextlib.suppress(OSError):  # if the disk is full, the user should see the original error
        record_stop(runner.work_dir, kind, reason, iteration, epoch)


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return 'interrupted from the keyboard'
    if isinstance(error, StoppedBySignal):
        return error.reason
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else ''
    if isinstance(error, UsageError | WorkStopped):
        return text
    return f'{type(error).__name__}: {text}' if text else type(error).__name__


def as_stop(runner: Runner, error: BaseException, signals: Sequence[int] = ()) -> BaseException:
    """Turns what a full disk, a signal or too little memory led to into a message with the last good checkpoint.

    Other errors stay.

    Args:
        runner: of the run.
        error: that ended it.
        signals: that were received while it trained.
    """
    if isinstance(error, UsageError | WorkStopped) and not isinstance(error, DiskError):
        return error  # it has its sentence
    said = dead_worker(error)
    if said and signals:
        return StoppedBySignal(signals[0], f', which ended the workers of the loader too. {what_is_left(runner)}')
    said = said or what_ran_out(error, runner.cfg) or lost_connection(error)
    if said:
        return WorkStopped(f'{said} {what_is_left(runner)}')
    said = str(error) if isinstance(error, DiskError) else _refused(runner, error)
    return DiskError(f'{said} {what_is_left(runner)}') if said else error


def what_is_left(runner: Runner) -> str:
    """A sentence about the checkpoint from which a run can go on."""
    if not Path(runner.work_dir).is_dir():
        return 'Its checkpoints are where it is now.'
    path = last_good(runner.work_dir)
    return (
        f'The last good checkpoint is {path}; --resume goes on from there.' if path else 'There is no checkpoint yet.'
    )


class SignalListener:
    """Says that a signal was received, and ends a run at the second one. Called by a signal handler.

    Where processes work together, both the terminal and the launcher send each of them the same signal: what follows
    within seconds is not a second one.

    Args:
        runner: of the run.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._first = 0.0

    def __call__(self, number: int, count: int) -> None:
        """Takes a signal.

        Args:
            number: of the signal.
            count: of signals until now, this one included.

        Raises:
            StoppedBySignal: at the second one.
        """
        now = time.monotonic()
        if count > 1:
            if self._runner.world_size == 1 or now - self._first > _SAME_SIGNAL:
                raise StoppedBySignal(number, f' at once, by a second signal. {what_is_left(self._runner)}')
            return
        self._first = now
        if is_main_process():
            name = signal.Signals(number).name
            word = f'\n{name}: the run stops after this step; a second signal stops it at once\n'
            os.write(2, word.encode())  # print may be in the middle of a line of its own


def _refused(runner: Runner, error: BaseException) -> str | None:
    """The message for what is written outside of :mod:`mstkit.utils.files`, such as the log; None for other errors."""
    name = error.filename if isinstance(error, OSError) else None
    if not disk_is_full(error):
        if not isinstance(error, FileNotFoundError | PermissionError) or name is None:
            return None
        path = Path(os.fsdecode(name))
        if Path(runner.work_dir).absolute() not in path.absolute().parents:
            return None
        gone = path if path.parent.is_dir() else path.parent
        why = f'{gone} is not there any more' if isinstance(error, FileNotFoundError) else str(error.strerror).lower()
        return f'{path} cannot be used: {why}. Make the work dir as it was.'
    free = free_space(runner.work_dir)
    return (
        f'{name or "a file"} cannot be written: the disk is full{f" ({free})" if free else ""}. '
        'Free some space, or write to another disk.'
    )


def last_good(work_dir: str | Path) -> Path | None:
    """The checkpoint that ``last_checkpoint`` names, if it exists; else None."""
    try:
        path = named_last(work_dir)
    except UsageError:
        return None
    return path if path is not None and path.exists() else None
