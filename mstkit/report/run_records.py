"""Reads the JSON-lines files of a run; damaged lines are counted and skipped."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mstkit.report.chart_scales import Point

# Keys that mmengine adds to every line of a log.
BOOKKEEPING = frozenset(('epoch', 'iter', 'step'))
TIMES = ('time', 'data_time')
OWN_FILES = ('knn/', 'collapse/')  # scalars that are in knn.jsonl and collapse.jsonl too


@dataclass
class Lines:
    """The content of a file of JSON objects, one per line.

    Attributes:
        records: the objects that could be read.
        damaged: number of lines that could not be read.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    damaged: int = 0


def read_lines(path: Path) -> Lines:
    """Reads a file of JSON objects, one per line; empty if there is none."""
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
    """Records in the order of their epochs, the last one of each epoch; records without an epoch count as damaged."""
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
    """Losses that are not finite, from some line of the log to its end.

    Attributes:
        iteration: of the first such line.
        before: iteration of the last line with finite losses; 0 without one.
        losses: the terms of the first such line that are not finite.
    """

    iteration: int
    before: int
    losses: dict[str, float]


@dataclass
class Scalars:
    """The ``scalars.json`` of all starts and resumes of a run.

    Attributes:
        training: lines of training iterations, in order.
        validations: lines of validations, in order of step.
        damaged: number of lines that could not be read.
    """

    training: list[dict[str, Any]] = field(default_factory=list)
    validations: list[dict[str, Any]] = field(default_factory=list)
    damaged: int = 0

    def curve(self, name: str, iterations: int | None) -> list[Point]:
        """A scalar of training over epochs of ``iterations`` iterations; over iterations if None."""
        return [
            (record['iter'] / iterations if iterations else float(record['iter']), float(record[name]))
            for record in self.training
            if is_number(record.get(name))
        ]

    def names(self) -> list[str]:
        """Names of scalars of training, in the order in which they were first logged."""
        every = dict.fromkeys(name for record in self.training for name in record if is_number(record[name]))
        return [name for name in every if name not in BOOKKEEPING]

    def divergence(self) -> Divergence | None:
        """Since when the losses are not finite up to the last line; None if they are finite in the last line.

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
        """Curves of validation metrics, by name."""
        found: dict[str, list[Point]] = {}
        for record in self.validations:
            for name, value in record.items():
                if name not in BOOKKEEPING and name not in TIMES and is_number(value):
                    found.setdefault(name, []).append((float(record['step']), float(value)))
        return found


def read_scalars(files: Sequence[Path]) -> Scalars:
    """Joins the logs of all starts of a run: lines of a later log replace earlier ones from its first iteration on.

    Args:
        files: in the order of the starts.
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
    """Whether a value is a number (also NaN or infinity), but not a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def read_json(path: Path) -> Any:
    """The content of a JSON file; None if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None
