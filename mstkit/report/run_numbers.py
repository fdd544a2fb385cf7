"""The numbers of a run that stand at the top of the page and in tables."""

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
    """A curve in four numbers.

    Attributes:
        name: of the curve.
        start: the value before training, where it was measured.
        last: the newest point.
        best: the highest point after training began, the first of equals.
    """

    name: str
    start: float | None
    last: Point
    best: Point


def accuracies(run: RunRecord, k: int | None = None) -> list[Reached]:
    """k-NN by branch and the validation's metrics; what was never measured after training began is left out."""
    found = []
    for one in accuracy_curves(run, k):
        trained = [point for point in one.points if point[0] > 0 and math.isfinite(point[1])]
        if trained and one.family is not VALIDATION_MORE:
            start = next((y for x, y in one.points if x == 0), None)
            name = f'k-NN, {one.name}' if one.family is not VALIDATION else one.name
            found.append(Reached(name, start, trained[-1], max(trained, key=lambda point: point[1])))
    return found


def hidden_share(run: RunRecord) -> tuple[float, float, float] | None:
    """Mean, lowest and highest share of hidden patches over the epochs, percent; None where nothing says it."""
    values = [y for one in monitored(run) if one.family is HIDDEN for _, y in one.points]
    if not values and part(run.config, 'model.teacher') is not None and part(run.config, 'model.masker') is None:
        return 0.0, 0.0, 0.0
    return (sum(values) / len(values), min(values), max(values)) if values else None


def training_seconds(run: RunRecord) -> float | None:
    """About how long the training iterations took, from the time of one that was logged now and then."""
    total, before = 0.0, 0
    for record in run.scalars.training:
        if isinstance(record.get('time'), int | float):
            total += record['time'] * max(0, record['iter'] - before)
            before = record['iter']
    return total if before and math.isfinite(total) else None


def mean_of(values: Sequence[float | None]) -> Spread | None:
    """Mean and deviation of the values that are there."""
    return spread(value for value in values if value is not None and math.isfinite(value))
