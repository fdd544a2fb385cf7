"""What a run recorded of itself: its environment, what was chosen at the start, warnings, and how it ended."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mstkit.engine.checkpoints.run_events import DIVERGED, INTERRUPTED
from mstkit.report.run_records import read_lines

# Said once a measurement or in every run: it stands elsewhere on the page, or nobody needs it.
_COMMONPLACE = re.compile(
    r'k-NN epoch|features epoch|panels of epoch|Exp name|"FileClient" will be deprecated|"HardDiskBackend"'
    r'|Distributed training is not used'
)
_LONGEST = 400  # characters of a line on the page
_ENVIRONMENT_LEFT_OUT = ('PyTorch compiling details', 'mp_cfg', 'dist_cfg')


@dataclass(frozen=True)
class Stop:
    """That a training ended before its time, and why, in its own words.

    Attributes:
        kind: of :mod:`mstkit.engine.checkpoints.run_events`.
        reason: a sentence, or the last line of a traceback.
        iteration: where.
        epoch: the one that it was in, counted from 1.
    """

    kind: str
    reason: str
    iteration: int
    epoch: int

    @property
    def diverged(self) -> bool:
        """The loss or the weights were no longer finite."""
        return self.kind == DIVERGED

    @property
    def interrupted(self) -> bool:
        """Somebody pressed Ctrl-C."""
        return self.kind == INTERRUPTED


@dataclass
class Events:
    """The ``events.jsonl`` of a run, of all processes that worked on it.

    Attributes:
        recorded: there is such a file; runs of earlier versions have none.
        environment: versions, machine and settings by name, of the first process.
        processes: that trained together.
        seed: of the run; None where it was not recorded.
        chosen: what was decided or found before the first iteration.
        warnings: how often each was given.
        epoch_length: iterations of an epoch; None where the run counts in iterations or did not come that far.
        stop: why the newest process stopped before its end; None where it did not, or could not say so.
        damaged: lines that could not be read.
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
    """Reads the events of a run, whatever state the file is in."""
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
        events.stop = None  # that of an earlier process, from which this one goes on
    elif kind == 'stop':
        reason, iteration, epoch = str(record['reason']), int(record['iteration']), int(record['epoch'])
        events.stop = Stop(str(record['kind']), reason, iteration, epoch)


def _choose(events: Events, text: str) -> None:
    text = _line(text)
    if text and text not in events.chosen and not _COMMONPLACE.search(text):
        events.chosen.append(text)


def _line(text: str) -> str:
    """The first line, not longer than anybody reads."""
    return text.strip().partition('\n')[0][:_LONGEST]
