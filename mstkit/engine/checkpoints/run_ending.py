"""Reports that a training stopped before its end: in the log, in the record of events, and as an error message."""

from __future__ import annotations

import contextlib
from pathlib import Path

from mmengine.runner import Runner

from mstkit.engine.checkpoints.newest_checkpoint import named_last
from mstkit.engine.checkpoints.run_events import DIVERGED, FAILED, INTERRUPTED, record_stop
from mstkit.errors import DiskError, UsageError, WorkStopped, disk_is_full
from mstkit.utils.files import free_space


class NonFiniteLossError(WorkStopped):
    """The training diverged; the message says where, and which checkpoint is good."""


def log_why_it_stopped(runner: Runner, error: BaseException) -> None:
    """Writes where and why a training stopped to its log and its record of events."""
    reason, epoch = _reason(error), runner.epoch + 1
    runner.logger.error(f'the run stopped at iteration {runner.iter} (epoch {epoch}): {reason}')
    kind = FAILED
    if isinstance(error, NonFiniteLossError):
        kind = DIVERGED
    elif isinstance(error, KeyboardInterrupt):
        kind = INTERRUPTED
    with contextlib.suppress(OSError):  # if the disk is full, the user should see the original error
        record_stop(runner.work_dir, kind, reason, runner.iter, epoch)


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return 'interrupted from the keyboard'
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else ''
    if isinstance(error, UsageError | WorkStopped):
        return text
    return f'{type(error).__name__}: {text}' if text else type(error).__name__


def as_stop(runner: Runner, error: BaseException) -> BaseException:
    """Turns an error of a full disk into a message that names the last good checkpoint; other errors stay."""
    if not isinstance(error, DiskError) and not disk_is_full(error):
        return error
    said = str(error) if isinstance(error, DiskError) else _full(runner, error)
    path = last_good(runner.work_dir)
    left = (
        f'The last good checkpoint is {path}; --resume goes on from there.' if path else 'There is no checkpoint yet.'
    )
    return DiskError(f'{said} {left}')


def _full(runner: Runner, error: BaseException) -> str:
    """The message for a write outside of :mod:`mstkit.utils.files`, such as a line of the log."""
    name = error.filename if isinstance(error, OSError) else None
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
