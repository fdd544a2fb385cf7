"""What a run reached, read from the logs that mmengine writes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mstkit.experiments.tasks import Metric

Curve = dict[int, float]  # percent by epoch or iteration, in order


def read_curves(files: Sequence[Path], metrics: Sequence[Metric]) -> dict[str, Curve]:
    """The metrics of a run's validations.

    A validation in which no object was detected leaves a line without any metric; it counts as ``Metric.empty``. One
    that was done again, after a resume, takes the place of the earlier one. Neither NaN nor mmdet's AP of -1, where
    there is nothing to detect, is a measurement.

    Args:
        files: ``scalars.json`` of each process that worked on the run, in their order.
        metrics: to be read.

    Returns:
        Percent by step, by the metric's name; empty where nothing was measured.
    """
    curves: dict[str, Curve] = {metric.name: {} for metric in metrics}
    written: set[str] = set()
    for record in _validations(files):
        step, empty = int(record['step']), {'time'} <= set(record) <= {'step', 'time', 'data_time'}
        for metric in metrics:
            value = record.get(metric.key)
            if isinstance(value, int | float) and value >= 0:
                written.add(metric.name)
                curves[metric.name][step] = value * metric.factor
            elif empty and metric.empty is not None:
                curves[metric.name][step] = metric.empty
    # A config that does not measure a metric has no zeros of it either.
    kept = written or set(curves)
    return {name: dict(sorted(curve.items())) if name in kept else {} for name, curve in curves.items()}


def newest(curves: Mapping[str, Curve]) -> int | None:
    """The last step at which something was measured."""
    return max((step for curve in curves.values() for step in curve), default=None)


def _validations(files: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """The lines that mmengine's LoggerHook wrote after validations: they have no iteration, those of training do."""
    for file in files:
        for line in file.read_text(encoding='utf-8', errors='replace').splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue  # the last line of a process that was killed
            if isinstance(record, dict) and 'step' in record and 'iter' not in record:
                yield record
