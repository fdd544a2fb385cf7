"""Intervals of paired differences: their coverage on data whose truth is known, and scipy's own bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
import scipy

from mstkit.experiments.paired_bootstrap import bootstrap_means, holm, paired_difference, t_interval


def simulated(
    random: np.random.Generator, seeds: int, images: int, effect: float, between_seeds: float
) -> tuple[np.ndarray, np.ndarray]:
    """Hits of two methods: images differ in difficulty, seeds in how good they are; the true difference is known.

    Each image of a seed is right with a probability that is linear in all of these, so that the expected difference of
    the accuracies is ``effect`` (a share).
    """
    difficulty = random.uniform(-0.2, 0.2, images)
    hits = []
    for shift in (effect / 2, -effect / 2):
        of_seed = between_seeds * random.standard_normal((seeds, 1))
        hits.append(random.random((seeds, images)) < 0.5 + difficulty + of_seed + shift)
    return hits[0], hits[1]


def coverage(seeds: int, between_seeds: float, times: int = 300, effect: float = 0.04) -> tuple[float, float]:
    """The shares of simulated experiments whose bootstrap and t intervals hold the true difference."""
    random, held, by_seeds = np.random.default_rng(7), 0, 0
    for _ in range(times):
        found = paired_difference(*simulated(random, seeds, 150, effect, between_seeds), draws=400)
        held += found.low <= 100 * effect <= found.high
        if found.seeds_low is not None and found.seeds_high is not None:
            by_seeds += found.seeds_low <= 100 * effect <= found.seeds_high
    return held / times, by_seeds / times


def test_intervals_cover_what_they_say():
    """Of 300 experiments; 95 % has a standard error of 1.3 points. The crossed bootstrap errs on the wide side."""
    many, by_seeds = coverage(seeds=8, between_seeds=0.06)
    assert 0.92 < many <= 1 and 0.92 < by_seeds < 0.985
    few, by_seeds = coverage(seeds=2, between_seeds=0.05)
    assert 0.90 < few <= 1 and 0.92 < by_seeds < 0.985


def test_one_seed_covers_where_seeds_do_not_differ_and_not_where_they_do():
    alone, _ = coverage(seeds=1, between_seeds=0.0)
    assert 0.92 < alone < 0.985
    blind, _ = coverage(seeds=1, between_seeds=0.06)
    assert blind < 0.8, 'one seed says nothing of another, and its interval is too narrow'


def test_two_seeds_that_differ_much_cover_less_than_they_say():
    """What the page says of two seeds: the bootstrap covers less, the t interval does not."""
    few, by_seeds = coverage(seeds=2, between_seeds=0.1)
    assert 0.7 < few < 0.9
    assert 0.92 < by_seeds < 0.985


def test_of_one_seed_it_is_the_bootstrap_of_scipy():
    random = np.random.default_rng(3)
    one, other = simulated(random, 1, 800, 0.05, 0.0)
    found = paired_difference(one, other, draws=20_000)
    reference = scipy.stats.bootstrap(
        (100.0 * (one[0].astype(float) - other[0]),), np.mean, n_resamples=20_000, method='percentile', rng=1
    ).confidence_interval
    assert found.points == pytest.approx(100 * (one.mean() - other.mean()))
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), abs=0.2)
    assert found.seeds_low is None and found.images == 800


def test_the_kinds_of_images_give_what_single_images_give():
    """Drawing how many images of each kind there are against drawing images: the same moments."""
    random = np.random.default_rng(5)
    one, other = simulated(random, 3, 300, 0.03, 0.03)
    difference = one.astype(np.int8) - other.astype(np.int8)
    fast = bootstrap_means(difference, 20_000, 0)
    slow = np.empty(5_000)
    for draw in range(len(slow)):
        seeds, images = random.integers(3, size=3), random.integers(300, size=300)
        slow[draw] = 100 * difference[seeds].mean(axis=0)[images].mean()
    assert fast.mean() == pytest.approx(slow.mean(), abs=0.25)
    assert fast.std() == pytest.approx(slow.std(), rel=0.05)
    assert np.quantile(fast, [0.025, 0.975]) == pytest.approx(np.quantile(slow, [0.025, 0.975]), abs=0.5)


def test_equal_hits_are_no_difference_and_a_large_one_is_found():
    hits = np.random.default_rng(0).random((3, 200)) < 0.5
    same = paired_difference(hits, hits)
    assert (same.points, same.low, same.high, same.p) == (0, 0, 0, 1)
    better = paired_difference(np.ones_like(hits), hits)
    assert better.low > 40 and better.p == pytest.approx(2 / 10_001)
    assert paired_difference(hits, np.ones_like(hits)).points == -better.points
    assert paired_difference(np.ones_like(hits), hits) == better, 'the draws have a seed of their own'


def test_shapes_have_to_agree():
    with pytest.raises(ValueError, match=r'\(2, 3\) and \(2, 4\)'):
        paired_difference(np.ones((2, 3), bool), np.ones((2, 4), bool))


def test_students_interval():
    low, high = t_interval(np.array([1.0, 3.0]))
    assert (low, high) == pytest.approx((2 - 12.706, 2 + 12.706), abs=1e-2), 't of 0.975 with one degree is 12.706'
    assert t_interval(np.array([1.0])) == (None, None)


def test_holms_correction():
    """The example: 0.01, 0.04, 0.03 times 3, 1 and 2; none below the one before it."""
    assert holm({'a': 0.01, 'b': 0.04, 'c': 0.03}) == pytest.approx({'a': 0.03, 'b': 0.06, 'c': 0.06})
    assert holm({'a': 0.9, 'b': 0.8}) == {'a': 1.0, 'b': 1.0}
    assert holm({}) == {}
