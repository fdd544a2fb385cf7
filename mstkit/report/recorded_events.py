"""Reads ``events.jsonl`` of a run: its environment, the notes of its start, warnings, and how it ended."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mstkit.engine.checkpoints.run_events import DIVERGED, INTERRUPTED
from mstkit.report.run_records import read_lines

# Log lines that are not shown: they occur in every run or at every measurement.
_COMMONPLACE = re.compile(
    r'k-NN epoch|features epoch|panels of epoch|Exp name|"FileClient" will be deprecated|"HardDiskBackend"'
    r'|Distributed training is not used'
)
_LONGEST = 400  # characters of a line on the page
_ENVIRONMENT_LEFT_OUT = ('PyTorch compiling details', 'mp_cfg', 'dist_cfg')


@dataclass(frozen=True)
class Stop:
    """Why and where a training stopped before its end.

    Attributes:
        kind: a constant of :mod:`mstkit.engine.checkpoints.run_events`.
        reason: a sentence, or the last line of a traceback.
        iteration: the number of iterations done.
        epoch: the epoch in which it stopped, counted from 1.
    """

    kind: str
    reason: str
    iteration: int
    epoch: int

    @property
    def diverged(self) -> bool:
        """Whether it stopped because the loss or the weights were not finite."""
        return self.kind == DIVERGED

    @property
    def interrupted(self) -> bool:
        """Whether a signal ended it, from the keyboard or by another program."""
        return self.kind == INTERRUPTED


@dataclass
class Events:
    """The content of ``events.jsonl``, over all starts and resumes of a run.

    Attributes:
        recorded: the file exists; runs of earlier versions have none.
        environment: versions, machine and settings by name, of the first start.
        processes: number of processes of the newest start.
        seed: of the run; None if not recorded.
        chosen: notes of the log before the first iteration.
        warnings: each warning with its number of occurrences.
        epoch_length: iterations per epoch; None if the run counts in iterations or has not started its first one.
        stop: why the run stopped after its newest start; None if it finished, goes on, or was killed.
        damaged: number of lines that could not be read.
    """

    recorded: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    processes: int = 1
    seed: int | None = None
    chosen: list[str] = field(default_factory=list)
    warnings: dict[str, int] = field(default_factory=dict)
    epoch_length: int | None = None
    stop: Stop | None = None
    damaged: int = 0


def read_events(path: Path) -> Events:
    """Reads the events of a run; a missing or damaged file is no error."""
    lines = read_lines(path)
    events = Events(recorded=path.is_file(), damaged=lines.damaged)
    for record in lines.records:
        try:
            _take(events, record)
        except (KeyError, TypeError, ValueError, AttributeError):
            events.damaged += 1
    return events


def _take(events: Events, record: dict[str, Any]) -> None:
    kind = record['event']
    if kind == 'start':
        environment = {str(name): str(value) for name, value in record['environment'].items()}
        events.processes, events.seed = int(record['processes']), int(record['seed'])
        for name, value in environment.items():
            if name not in _ENVIRONMENT_LEFT_OUT:
                events.environment.setdefault(name, value)
        for text in record['changes']:
            _choose(events, str(text))
    elif kind == 'note':
        _choose(events, str(record['text']))
    elif kind == 'warning':
        text = _line(str(record['text']))
        if text and not _COMMONPLACE.search(text):
            events.warnings[text] = events.warnings.get(text, 0) + 1
    elif kind == 'training':
        length = record['epoch_length']
        events.epoch_length = None if length is None else int(length)
        events.stop = None  # the run was resumed after it
    elif kind == 'stop':
        reason, iteration, epoch = str(record['reason']), int(record['iteration']), int(record['epoch'])
        events.stop = Stop(str(record['kind']), reason, iteration, epoch)


def _choose(events: Events, text: str) -> None:
    text = _line(text)
    if text and text not in events.chosen and not _COMMONPLACE.search(text):
        events.chosen.append(text)


def _line(text: str) -> str:
    """The first line of a text, cut off after :data:`_LONGEST` characters."""
    return text.strip().partition('\n')[0][:_LONGEST]
