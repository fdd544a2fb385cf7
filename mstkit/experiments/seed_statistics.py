"""Mean and deviation over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple


class Spread(NamedTuple):
    """Mean and sample standard deviation over seeds; the deviation is None for a single seed."""

    mean: float
    deviation: float | None

    def __str__(self) -> str:
        return f'{self.mean:.1f}' if self.deviation is None else f'{self.mean:.1f} ± {self.deviation:.1f}'


def spread(values: Iterable[float | None]) -> Spread | None:
    """Mean and sample standard deviation of the values that are not None; None without any."""
    present = [value for value in values if value is not None]
    if not present:
        return None
    return Spread(statistics.fmean(present), statistics.stdev(present) if len(present) > 1 else None)


def mean_curve(curves: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """The mean curve over seeds, at the epochs or iterations that all of them have."""
    common = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
    return {step: statistics.fmean(curve[step] for curve in curves) for step in common}
