"""What a run wrote while it went, read so that a line broken off in the middle does no harm."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mstkit.report.chart_scales import Point

# What mmengine adds to every line of a log; not measurements.
BOOKKEEPING = frozenset(('epoch', 'iter', 'step'))
TIMES = ('time', 'data_time')
OWN_FILES = ('knn/', 'collapse/')  # scalars that stand in knn.jsonl and collapse.jsonl too


@dataclass
class Lines:
    """JSON objects, one a line.

    Attributes:
        records: those that could be read.
        damaged: how many lines could not.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    damaged: int = 0


def read_lines(path: Path) -> Lines:
    """Reads a ``.jsonl`` file, or one that mmengine writes; empty where there is none."""
    lines = Lines()
    if not path.is_file():
        return lines
    for text in path.read_text(encoding='utf-8', errors='replace').splitlines():
        if not text.strip():
            continue
        try:
            record = json.loads(text)
        except ValueError:
            record = None
        if isinstance(record, dict):
            lines.records.append(record)
        else:
            lines.damaged += 1
    return lines


def by_epoch(lines: Lines) -> list[dict[str, Any]]:
    """Records that have an epoch, in its order; of two of the same epoch the later one. Others count as damaged."""
    found = {}
    for record in lines.records:
        epoch = record.get('epoch')
        if isinstance(epoch, int) and not isinstance(epoch, bool):
            found[epoch] = record
        else:
            lines.damaged += 1
    return [found[epoch] for epoch in sorted(found)]


@dataclass(frozen=True)
class Divergence:
    """That the losses were not finite to the end of what was logged.

    Attributes:
        iteration: of the first such line of the log.
        before: the last line whose losses were finite; 0 where none was.
        losses: terms of the first such line that were not.
    """

    iteration: int
    before: int
    losses: dict[str, float]


@dataclass
class Scalars:
    """The ``scalars.json`` of all processes that worked on a run.

    Attributes:
        training: lines of training iterations, in order.
        validations: lines of validations, in order of step.
        damaged: lines that could not be read.
    """

    training: list[dict[str, Any]] = field(default_factory=list)
    validations: list[dict[str, Any]] = field(default_factory=list)
    damaged: int = 0

    def curve(self, name: str, iterations: int | None) -> list[Point]:
        """A scalar of training, over epochs of so many iterations; over iterations where nobody knows."""
        return [
            (record['iter'] / iterations if iterations else float(record['iter']), float(record[name]))
            for record in self.training
            if is_number(record.get(name))
        ]

    def names(self) -> list[str]:
        """Scalars of training, in the order in which they came."""
        every = dict.fromkeys(name for record in self.training for name in record if is_number(record[name]))
        return [name for name in every if name not in BOOKKEEPING]

    def divergence(self) -> Divergence | None:
        """Since when the losses were not finite, up to the last line; None where they were finite there.

        Only losses count: gradients overflow now and then under fp16, and an accuracy may be undefined.
        """
        found = None
        for record in reversed(self.training):
            losses = {name: value for name, value in record.items() if 'loss' in name and is_number(value)}
            broken = {name: value for name, value in losses.items() if not math.isfinite(value)}
            if broken:
                found = Divergence(record['iter'], 0, broken)
            elif losses:
                return found and replace(found, before=record['iter'])
        return found

    def metrics(self) -> dict[str, list[Point]]:
        """Numbers of validations, by name."""
        found: dict[str, list[Point]] = {}
        for record in self.validations:
            for name, value in record.items():
                if name not in BOOKKEEPING and name not in TIMES and is_number(value):
                    found.setdefault(name, []).append((float(record['step']), float(value)))
        return found


def read_scalars(files: Sequence[Path]) -> Scalars:
    """Puts together what several processes logged: from where a later one began, it takes the place of the earlier.

    Args:
        files: in the order of the processes.
    """
    scalars = Scalars()
    validations: dict[int, dict[str, Any]] = {}
    for file in files:
        lines = read_lines(file)
        scalars.damaged += lines.damaged
        training = [record for record in lines.records if is_number(record.get('iter'))]
        others = [record for record in lines.records if 'iter' not in record and isinstance(record.get('step'), int)]
        others = [record for record in others if not any(name.startswith(OWN_FILES) for name in record)]
        if training:
            first = training[0]['iter']
            scalars.training = [record for record in scalars.training if record['iter'] < first] + training
        if others:
            first_step = others[0]['step']
            validations = {step: record for step, record in validations.items() if step < first_step}
            validations.update((record['step'], record) for record in others)
    scalars.validations = [validations[step] for step in sorted(validations)]
    return scalars


def is_number(value: object) -> bool:
    """A number, NaN and infinity among them; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def read_json(path: Path) -> Any:
    """The content of a JSON file; None where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None
