"""Reads curves of measurements from the files of runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mstkit.errors import UsageError
from mstkit.experiments.job import Curves
from mstkit.experiments.tasks import Metric
from mstkit.utils.json_lines import EpochLines


def epoch_lines(file: Path) -> list[dict[str, Any]]:
    """The records of a ``.jsonl`` file in order of epoch; empty without a file.

    Raises:
        UsageError: the file was damaged.
    """
    try:
        return EpochLines(file).read()
    except ValueError as error:
        raise UsageError(str(error)) from error


def knn_curves(file: Path, k: int | None = None) -> Curves:
    """k-NN accuracy by branch, over epochs; epoch 0 is the untrained network.

    Args:
        file: ``knn.jsonl`` of a run.
        k: number of neighbors; by default the ``headline_k`` of the run.

    Raises:
        UsageError: the file was damaged.
    """
    curves: Curves = {}
    for line in epoch_lines(file):
        for branch, values in line['branches'].items():
            curves.setdefault(branch, {})[line['epoch']] = accuracy(values, k or line['k'])
    return curves


def accuracy(values: Mapping[str, float], k: int) -> float:
    """Top-1 accuracy of one branch at one epoch; a k above the size of the bank is replaced by the largest k."""
    largest = max(int(name.removeprefix('k').removesuffix('_top1')) for name in values if name.endswith('_top1'))
    return values[f'k{min(k, largest)}_top1']


def validation_curves(files: Sequence[Path], metrics: Sequence[Metric]) -> Curves:
    """The metrics of a run's validations, from mmengine's logs.

    A validation in which no object was detected logs no metric; it counts as ``Metric.empty``. A validation that was
    repeated after a resume replaces the earlier one. NaN, and mmdet's AP of -1 (nothing to detect), are ignored.

    Args:
        files: ``scalars.json`` of each start and resume of the run, in order.
        metrics: the metrics to read; one that was not measured has an empty curve.
    """
    curves: Curves = {metric.name: {} for metric in metrics}
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
    # If other metrics were logged, one without a single value is not measured by the config: it gets no zeros.
    kept = written or set(curves)
    return {name: dict(sorted(curve.items())) if name in kept else {} for name, curve in curves.items()}


def _validations(files: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """The lines of validations in mmengine's logs, which unlike those of training have no ``iter``."""
    for file in files:
        for line in file.read_text(encoding='utf-8', errors='replace').splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue  # the last line of a process that was killed
            if isinstance(record, dict) and 'step' in record and 'iter' not in record:
                yield record
