"""What a training records of itself for the report: ``events.jsonl`` in its work dir, one JSON object a line.

Every line has an ``event`` and the ``time`` that it was written at:

* ``start``: a process begins to train. ``environment`` has versions, machine and settings in words; ``processes`` and
  ``seed`` are numbers; ``changes`` says what the command line changed in the config.
* ``note``: what was decided or found before the first iteration, as ``text``.
* ``warning``: a warning or an error of the log, as ``level`` and ``text``.
* ``training``: a process begins its first iteration. ``iteration`` is its number from 1, ``epoch_length`` how many an
  epoch has, null in a run that counts in iterations.
* ``stop``: the training ended before its end. ``kind`` is ``diverged``, ``interrupted`` or ``failed``; ``reason``,
  ``iteration`` and ``epoch`` (from 1) say why and where.

A run that is resumed goes on in the same file.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mmengine
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mstkit.utils.json_lines import append_line

NAME = 'events.jsonl'
DIVERGED, INTERRUPTED, FAILED = 'diverged', 'interrupted', 'failed'
_MMENGINE = str(Path(mmengine.__file__).parent)  # what it says before training is the same for every run


class RunEvents(logging.Handler):
    """Listens to the log of a runner and writes its events; of several processes only the first one writes.

    Nothing is written before :meth:`open`: a runner that only measures leaves no record.

    Args:
        work_dir: of the run.
    """

    def __init__(self, work_dir: str | Path) -> None:
        super().__init__(logging.INFO)
        self.path = Path(work_dir) / NAME
        self.environment: dict[str, str] = {}
        self.changes: list[str] = []
        self.trains = False
        self._waiting: list[dict[str, Any]] | None = []

    def emit(self, record: logging.LogRecord) -> None:
        """Takes a line of the log."""
        try:
            if record.levelno >= logging.WARNING:
                self.write('warning', level=record.levelname, text=record.getMessage())
            elif not self.trains and not record.pathname.startswith(_MMENGINE):
                self.write('note', text=record.getMessage())
        except OSError:
            self.handleError(record)

    def open(self, runner: Runner) -> None:
        """Writes that a process begins to train, and what was said until now."""
        waiting, self._waiting = self._waiting or [], None
        self.write(
            'start',
            environment=self.environment,
            processes=runner.world_size,
            seed=runner.seed,
            changes=self.changes,
        )
        for event in waiting:
            self._append(event)

    def write(self, event: str, **facts: Any) -> None:
        """Writes an event, or keeps it until the file is opened."""
        line = dict(event=event, time=time.strftime('%Y-%m-%d %H:%M:%S'), **facts)
        if self._waiting is None:
            self._append(line)
        else:
            self._waiting.append(line)

    def _append(self, line: Mapping[str, Any]) -> None:
        if is_main_process():
            append_line(self.path, line)


class FirstIterationHook(Hook):
    """Records that a process trains: what was decided before is decided, and what stopped an earlier one is over.

    Args:
        events: of the run.
    """

    priority = 'LOWEST'

    def __init__(self, events: RunEvents) -> None:
        self.events = events

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Writes it before the first iteration."""
        if not self.events.trains:
            self.events.trains = True
            loop = runner.train_loop
            length = loop.max_iters // loop.max_epochs if isinstance(loop, EpochBasedTrainLoop) else None
            self.events.write('training', iteration=runner.iter + 1, epoch_length=length)


def record_stop(work_dir: str | Path, kind: str, reason: str, iteration: int, epoch: int) -> None:
    """Writes why and where a training stopped, under any runner; the arguments are those of the event ``stop``."""
    if is_main_process():
        when = time.strftime('%Y-%m-%d %H:%M:%S')
        facts = dict(kind=kind, reason=reason, iteration=iteration, epoch=epoch)
        append_line(Path(work_dir) / NAME, dict(event='stop', time=when, **facts))
