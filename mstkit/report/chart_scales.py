"""Computations for charts: ticks of axes, thinning of points, smoothing."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

Point = tuple[float, float]

BINS = 120  # of a chart that is about 300 px wide; each bin keeps up to five points
SMOOTHED_FROM = 60  # points; a shorter curve is not smoothed


def thin(points: Sequence[Point], bins: int = BINS) -> list[Point]:
    """Reduces the number of points without changing how the curve looks; spikes are kept.

    In each of the bins, equally wide over the index, the first, the last, the lowest and the highest point are kept,
    and the first one that is not finite.

    Args:
        points: in order of x.
        bins: number of bins; up to four times as many points are returned unchanged.
    """
    if len(points) <= 4 * bins:
        return list(points)
    values = np.array([y for _, y in points], dtype=float)
    kept: set[int] = set()
    for part in np.array_split(np.arange(len(points)), bins):
        finite = part[np.isfinite(values[part])]
        broken = part[~np.isfinite(values[part])]
        kept.update(int(index) for index in (part[0], part[-1]))
        if len(finite):
            kept.update((int(finite[values[finite].argmin()]), int(finite[values[finite].argmax()])))
        if len(broken):
            kept.add(int(broken[0]))
    return [points[index] for index in sorted(kept)]


def smooth(points: Sequence[Point]) -> tuple[list[Point], int] | None:
    """The running mean of a curve, with a window that is symmetric and shrinks towards the ends.

    Returns:
        The curve, and the width of the window in points (about a twentieth of all); None for a short curve.
    """
    finite = [point for point in points if math.isfinite(point[1])]
    if len(finite) < SMOOTHED_FROM:
        return None
    half = max(2, len(finite) // 40)
    total = np.concatenate(([0.0], np.cumsum([y for _, y in finite])))
    index = np.arange(len(finite))
    reach = np.minimum(half, np.minimum(index, len(finite) - 1 - index))
    means = (total[index + reach + 1] - total[index - reach]) / (2 * reach + 1)
    return [(x, float(mean)) for (x, _), mean in zip(finite, means, strict=True)], 2 * half + 1


def choose_rows(columns: Sequence[Sequence[Point]], most: int = 200) -> tuple[list[float], int]:
    """The x values shown in a table of curves: all, or evenly spaced ones and those of each curve's extremes.

    Returns:
        The chosen x in order, and the number of all x.
    """
    every = sorted({x for points in columns for x, _ in points})
    if len(every) <= most:
        return every, len(every)
    chosen = {every[round(index)] for index in np.linspace(0, len(every) - 1, most)}
    for points in columns:
        finite = [point for point in points if math.isfinite(point[1])]
        if finite:
            chosen |= {min(finite, key=lambda point: point[1])[0], max(finite, key=lambda point: point[1])[0]}
    return sorted(chosen), len(every)


def linear_ticks(low: float, high: float, about: int = 5, whole: bool = False) -> list[float]:
    """Ticks in [low, high] whose distance is 1, 2 or 5 times a power of ten.

    Args:
        low: lower end.
        high: upper end, above ``low``.
        about: approximate number of ticks.
        whole: only whole numbers.
    """
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    if whole:
        step = max(1.0, step)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten in [low, high], and 2 and 5 times these if there are fewer than three."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    decades = [10.0**power for power in powers if low <= 10.0**power <= high]
    if len(decades) > 6:
        return decades[:: math.ceil(len(decades) / 6)]
    if len(decades) >= 3:
        return decades
    finer = [factor * 10.0**power for power, factor in itertools.product(powers, (1, 2, 5))]
    return [tick for tick in finer if low <= tick <= high]


def domain(values: Sequence[float], logarithmic: bool = False) -> tuple[float, float]:
    """The ends of an axis that shows the values with a small margin; never of zero length."""
    low, high = min(values), max(values)
    if logarithmic:
        margin = max((high / low) ** 0.05, 1.02)
        return low / margin, high * margin
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    # The axis of positive values begins at zero if they come near it.
    return (0.0 if 0 <= low < 0.15 * high else low - margin), high + margin


def scale(
    ends: tuple[float, float], pixels: tuple[float, float], logarithmic: bool = False
) -> Callable[[float], float]:
    """A function from values to pixels."""
    first, last = (math.log(end) for end in ends) if logarithmic else ends
    left, right = pixels

    def place(value: float) -> float:
        here = math.log(value) if logarithmic else value
        return left + (here - first) / (last - first) * (right - left)

    return place


def value_at(points: Sequence[Point], x: float) -> float | None:
    """The value of a curve at exactly this x; None if it has no such point."""
    index = bisect.bisect_left(points, x, key=lambda point: point[0])
    return points[index][1] if index < len(points) and points[index][0] == x else None
