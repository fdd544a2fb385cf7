"""Summary numbers of a run, for the top of the page and for tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from mstkit.experiments import Spread, spread
from mstkit.report.chart_scales import Point
from mstkit.report.run_charts import HIDDEN, VALIDATION, VALIDATION_MORE, accuracy_curves, monitored
from mstkit.report.run_configs import part
from mstkit.report.run_facts import RunRecord


class Reached(NamedTuple):
    """Start, last and best value of a curve.

    Attributes:
        name: of the curve.
        start: the value before training; None if it was not measured.
        last: the newest point.
        best: the highest point after training began; the first one of equal points.
    """

    name: str
    start: float | None
    last: Point
    best: Point


def accuracies(run: RunRecord, k: int | None = None) -> list[Reached]:
    """Accuracies of k-NN by branch, and metrics of validations, that were measured after training began."""
    found = []
    for one in accuracy_curves(run, k):
        trained = [point for point in one.points if point[0] > 0 and math.isfinite(point[1])]
        if trained and one.family is not VALIDATION_MORE:
            start = next((y for x, y in one.points if x == 0), None)
            name = f'k-NN, {one.name}' if one.family is not VALIDATION else one.name
            found.append(Reached(name, start, trained[-1], max(trained, key=lambda point: point[1])))
    return found


def hidden_share(run: RunRecord) -> tuple[float, float, float] | None:
    """Mean, lowest and highest share of hidden patches over the epochs, in percent; None if unknown."""
    values = [y for one in monitored(run) if one.family is HIDDEN for _, y in one.points]
    if not values and part(run.config, 'model.teacher') is not None and part(run.config, 'model.masker') is None:
        return 0.0, 0.0, 0.0
    return (sum(values) / len(values), min(values), max(values)) if values else None


def training_seconds(run: RunRecord) -> float | None:
    """Approximate time of all training iterations, from the logged time per iteration; None if not logged."""
    total, before = 0.0, 0
    for record in run.scalars.training:
        if isinstance(record.get('time'), int | float):
            total += record['time'] * max(0, record['iter'] - before)
            before = record['iter']
    return total if before and math.isfinite(total) else None


def mean_of(values: Sequence[float | None]) -> Spread | None:
    """Mean and standard deviation of the finite values; None without any."""
    return spread(value for value in values if value is not None and math.isfinite(value))
