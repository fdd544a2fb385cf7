"""Records the events of a training for the report: ``events.jsonl`` in its work dir, one JSON object a line.

Every line has an ``event`` and the ``time`` at which it was written:

* ``start``: a process begins to train. ``environment`` has versions, machine and settings as text; ``processes`` and
  ``seed`` are numbers; ``changes`` lists what the command line changed in the config.
* ``note``: an information in the log before the first iteration, as ``text``.
* ``warning``: a warning or an error in the log, as ``level`` and ``text``.
* ``training``: a process begins its first iteration. ``iteration`` is its number from 1, ``epoch_length`` the number
  of iterations per epoch, null in a run that counts in iterations.
* ``stop``: the training stopped before its end. ``kind`` is ``diverged``, ``interrupted`` or ``failed``; ``reason``,
  ``iteration`` and ``epoch`` (from 1) say why and where.

A resumed run appends to the same file.
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
from mstkit.utils.log_marks import LogListener

NAME = 'events.jsonl'
DIVERGED, INTERRUPTED, FAILED = 'diverged', 'interrupted', 'failed'
_MMENGINE = str(Path(mmengine.__file__).parent)  # its log lines before training are not recorded


class RunEvents(LogListener):
    """Handler of a runner's log that writes events; only rank 0 writes.

    Nothing is written before :meth:`open`, so that a runner that does not train leaves no record.

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
        """Records a line of the log: warnings always, other lines only before the first iteration."""
        try:
            if record.levelno >= logging.WARNING:
                self.write('warning', level=record.levelname, text=record.getMessage())
            elif not self.trains and not record.pathname.startswith(_MMENGINE):
                self.write('note', text=record.getMessage())
        except OSError:
            self.handleError(record)

    def open(self, runner: Runner) -> None:
        """Writes the event ``start``, and the events until now."""
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
    """Records the event ``training`` when the first iteration begins.

    Args:
        events: of the run.
    """

    priority = 'LOWEST'

    def __init__(self, events: RunEvents) -> None:
        self.events = events

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Writes the event before the first iteration."""
        if not self.events.trains:
            self.events.trains = True
            loop = runner.train_loop
            length = loop.max_iters // loop.max_epochs if isinstance(loop, EpochBasedTrainLoop) else None
            self.events.write('training', iteration=runner.iter + 1, epoch_length=length)


def record_stop(work_dir: str | Path, kind: str, reason: str, iteration: int, epoch: int) -> None:
    """Writes the event ``stop`` with the given fields; works with any runner."""
    if is_main_process():
        when = time.strftime('%Y-%m-%d %H:%M:%S')
        facts = dict(kind=kind, reason=reason, iteration=iteration, epoch=epoch)
        append_line(Path(work_dir) / NAME, dict(event='stop', time=when, **facts))
