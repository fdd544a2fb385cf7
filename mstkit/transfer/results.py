"""What the runs of a transfer reached, read from the logs that mmengine writes."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence

from mstkit.transfer.plan import FINISHED, TASKS, Run


def read_curves(run: Run) -> dict[str, list[tuple[int, float]]]:
    """The metrics of a run's validations.

    Returns:
        (epoch or iteration, percent) by the metric's name, in order; empty lists where nothing was measured.
    """
    points: dict[str, dict[int, float]] = {metric.name: {} for metric in TASKS[run.task].metrics}
    for file in sorted(run.folder.glob('*/vis_data/scalars.json')):
        for line in file.read_text(encoding='utf-8').splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue  # the last line of a run that was killed
            for metric in TASKS[run.task].metrics:
                if metric.key in record and 'step' in record:
                    # One measured again after a resume takes the earlier one's place.
                    points[metric.name][int(record['step'])] = record[metric.key] * metric.factor
    return {name: sorted(curve.items()) for name, curve in points.items()}


def last(run: Run, metric: str) -> float | None:
    """The last value of a metric of a finished run, or None."""
    curve = read_curves(run)[metric]
    return curve[-1][1] if curve and run.record().get('status') == FINISHED else None


def shown(value: float) -> str:
    """A percentage in words; mmdet's AP is -1 where there is nothing to find."""
    return f'{value:.1f}' if value >= 0 else 'nothing to find'


def spread(values: Sequence[float]) -> str:
    """Mean ± sample standard deviation, the latter with two or more values."""
    if not values:
        return '–'
    mean = statistics.fmean(values)
    return f'{mean:.1f} ± {statistics.stdev(values):.1f}' if len(values) > 1 else shown(mean)
