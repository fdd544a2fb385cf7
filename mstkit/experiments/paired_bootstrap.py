"""Paired difference of two methods over the same seeds and the same validation images, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import scipy  # its parts are loaded when they are first used

DRAWS = 10_000  # of the bootstrap
LEVEL = 0.95
SEED = 0


class Difference(NamedTuple):
    """The accuracy of one method minus that of another, in points (percent of the images).

    Attributes:
        points: mean over the seeds.
        low, high: bootstrap interval over seeds and validation images.
        p: two-sided, of no difference, from the same bootstrap; at least 2 / (draws + 1).
        per_seed: the difference of each seed.
        seeds_low, seeds_high: Student's t interval over the seeds alone; None for a single seed.
        images: number of validation images.
    """

    points: float
    low: float
    high: float
    p: float
    per_seed: tuple[float, ...]
    seeds_low: float | None
    seeds_high: float | None
    images: int


def paired_difference(
    one: np.ndarray, other: np.ndarray, draws: int = DRAWS, level: float = LEVEL, seed: int = SEED
) -> Difference:
    """Compares two methods that were trained with the same seeds and judged on the same images.

    The bootstrap is crossed: each draw takes S of the S seeds and M of the M images with replacement, the same images
    for all of its seeds, as every seed is judged on the same images (Owen, Annals of Applied Statistics 2007, on data
    with two crossed random factors: it errs on the wide side where what one image does in one seed is chance).
    Resampling S seeds loses a factor (S - 1) / S of their variance, half of it for two, and knows only the seeds that
    there are: the interval of two or three seeds is too narrow if seeds differ much, which is what the t interval
    beside it is for.

    Args:
        one: (S, M) bool, whether each image is classified correctly by each seed.
        other: likewise of the method that it is compared with.
        draws: of the bootstrap.
        level: of both intervals.
        seed: of the draws.

    Raises:
        ValueError: shapes differ, or there is nothing to compare.
    """
    if one.shape != other.shape or one.ndim != 2 or not one.size:
        raise ValueError(f'hits of shapes {one.shape} and {other.shape} cannot be compared')
    difference = one.astype(np.int8) - other.astype(np.int8)
    per_seed = 100.0 * difference.mean(axis=1)
    drawn = bootstrap_means(difference, draws, seed)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    tail = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    seeds_low, seeds_high = t_interval(per_seed, level)
    return Difference(
        float(per_seed.mean()),
        float(low),
        float(high),
        min(1.0, 2 * (tail + 1) / (draws + 1)),
        tuple(float(value) for value in per_seed),
        seeds_low,
        seeds_high,
        difference.shape[1],
    )


def bootstrap_means(difference: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """The means of crossed bootstrap draws, in points; see :func:`paired_difference`.

    Args:
        difference: (S, M), -1, 0 or 1.
        draws: B.
        seed: of the draws.

    Returns:
        (B,) float64.
    """
    seeds, images = difference.shape
    # Images with the same differences in all seeds are alike, so that drawing M images is drawing how many there are of
    # each kind: a multinomial over a few kinds in place of B times M indices.
    kinds, counts = np.unique(difference.T, axis=0, return_counts=True)  # (K, S), (K,)
    random = np.random.default_rng(seed)
    image_weights = random.multinomial(images, counts / images, size=draws) / images  # (B, K)
    seed_weights = random.multinomial(seeds, [1 / seeds] * seeds, size=draws) / seeds  # (B, S)
    return 100.0 * np.einsum('bk,ks,bs->b', image_weights, kinds.astype(np.float64), seed_weights, optimize=True)


def t_interval(values: np.ndarray, level: float = LEVEL) -> tuple[float | None, float | None]:
    """Student's t interval of the mean; (None, None) of fewer than two values."""
    if len(values) < 2:
        return None, None
    half = float(scipy.stats.t.ppf((1 + level) / 2, len(values) - 1)) * float(values.std(ddof=1)) / len(values) ** 0.5
    return float(values.mean()) - half, float(values.mean()) + half


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """p-values of several comparisons, adjusted so that one false finding among all has the stated probability.

    Holm's method (Scandinavian Journal of Statistics 1979): the smallest is multiplied by their number n, the next by
    n - 1, and so on; none is below the one before it.
    """
    adjusted: dict[str, float] = {}
    largest = 0.0
    for place, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        largest = max(largest, min(1.0, p_values[name] * (len(p_values) - place)))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}
