"""What the cells reached, read from what their runs wrote."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mstkit.engine.json_lines import EpochLines
from mstkit.errors import UsageError
from mstkit.experiments.cells import Cell
from mstkit.experiments.job import FINISHED

Curve = dict[int, float]  # accuracy in percent, by epoch; 0 is the untrained network


@dataclass(frozen=True)
class Result:
    """What is known of one cell.

    Attributes:
        cell: the cell.
        record: its ``cell.json``.
        curves: k-NN accuracy over epochs, by branch; empty unless it is finished.
        hidden: the share of patches that was hidden, mean over the epochs; None where nothing says it.
    """

    cell: Cell
    record: dict[str, Any]
    curves: dict[str, Curve] = field(default_factory=dict)
    hidden: float | None = None

    @property
    def finished(self) -> bool:
        return bool(self.record.get('status') == FINISHED)

    def start(self) -> float | None:
        """Accuracy of the untrained network, in which all branches are equal."""
        return next(iter(self.curves.values()), {}).get(0)

    def last(self, branch: str) -> tuple[int, float] | None:
        """The last epoch and its accuracy."""
        return max(self.curves.get(branch, {}).items(), default=None)

    def best(self, branch: str) -> tuple[int, float] | None:
        """The epoch with the highest accuracy, the first of equals, and that accuracy; epoch 0 does not count."""
        trained = [(epoch, value) for epoch, value in self.curves.get(branch, {}).items() if epoch > 0]
        return max(trained, key=lambda point: point[1], default=None)


def read_result(cell: Cell, k: int) -> Result:
    """Reads the records of a cell.

    Args:
        cell: finished or not.
        k: number of neighbours; where the bank was smaller, all of it.

    Raises:
        UsageError: a file in its folder was damaged.
    """
    record = cell.record()
    if record.get('status') != FINISHED:
        return Result(cell, record)
    try:
        knn = EpochLines(cell.folder / 'knn.jsonl').read()
        monitor = EpochLines(cell.folder / 'collapse.jsonl').read()
    except ValueError as error:
        raise UsageError(str(error)) from error
    curves: dict[str, Curve] = {}
    for line in knn:
        for branch, values in line['branches'].items():
            curves.setdefault(branch, {})[line['epoch']] = accuracy(values, k)
    shares = [line['hidden_fraction'] for line in monitor if 'hidden_fraction' in line]
    hidden = statistics.fmean(shares) if shares else 0.0 if cell.hides_nothing else None
    return Result(cell, record, curves, hidden)


def accuracy(values: Mapping[str, float], k: int) -> float:
    """Top-1 of one branch at one epoch; a k that the bank could not give is the largest that it could."""
    largest = max(int(name.removeprefix('k').removesuffix('_top1')) for name in values if name.endswith('_top1'))
    return values[f'k{min(k, largest)}_top1']
