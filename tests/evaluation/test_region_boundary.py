from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from mstkit.evaluation.benchmarks.region_boundary import boundary, boundary_accuracy, over_frames, region_similarity


def square(top: int, left: int, side: int, size: tuple[int, int] = (60, 80)) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def blobs(seed: int, size: tuple[int, int] = (60, 80)) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=size)
    return ndimage.gaussian_filter(noise, 4) > 0.02


def boundary_by_loops(mask: np.ndarray) -> np.ndarray:
    height, width = mask.shape
    result = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            places = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            if y == height - 1:
                places = [(y, x + 1)]
            if x == width - 1:
                places = [(y + 1, x)] if y < height - 1 else []
            result[y, x] = any(mask[place] != mask[y, x] for place in places)
    return result


def accuracy_by_dilation(predicted: np.ndarray, annotated: np.ndarray) -> float:
    """The definition in words: dilate each boundary by a disk and count what it covers of the other."""
    radius = math.ceil(0.008 * math.sqrt(predicted.shape[0] ** 2 + predicted.shape[1] ** 2))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = x**2 + y**2 <= radius**2
    found, true = boundary(predicted), boundary(annotated)
    if not found.any() or not true.any():
        return float(found.any() == true.any())
    precision = (found & ndimage.binary_dilation(true, disk)).sum() / found.sum()
    recall = (true & ndimage.binary_dilation(found, disk)).sum() / true.sum()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def test_region_of_made_masks():
    one = square(10, 10, 20)
    assert region_similarity(one, one) == 1
    assert region_similarity(one, square(10, 20, 20)) == pytest.approx(200 / 600)
    assert region_similarity(one, square(40, 60, 10)) == 0
    empty = np.zeros_like(one)
    assert region_similarity(empty, empty) == 1
    assert region_similarity(one, empty) == region_similarity(empty, one) == 0


def test_region_equals_plain_loops():
    one, two = blobs(1), blobs(2)
    pairs = list(zip(one.ravel().tolist(), two.ravel().tolist(), strict=True))
    expected = sum(a and b for a, b in pairs) / sum(a or b for a, b in pairs)
    assert region_similarity(one, two) == pytest.approx(expected)
    assert 0.1 < expected < 0.9


@pytest.mark.parametrize('mask', [blobs(3), square(0, 0, 20), square(50, 70, 10), np.ones((60, 80), bool)])
def test_boundary_equals_plain_loops(mask):
    assert np.array_equal(boundary(mask), boundary_by_loops(mask))


@pytest.mark.parametrize(
    ('one', 'two'),
    [
        *((blobs(seed), blobs(seed + 50)) for seed in range(4)),
        *((blobs(9), ndimage.shift(blobs(9).astype(float), (0, by), order=0) > 0.5) for by in (1, 2, 3)),
        (square(10, 10, 20), square(11, 11, 20)),
        (square(10, 10, 20), square(30, 50, 5)),
        (blobs(7, (300, 500)), blobs(8, (300, 500))),  # a disk of radius 5
        (square(3, 3, 100, (300, 500)), square(7, 6, 100, (300, 500))),  # corners 5 apart, exactly
    ],
)
def test_accuracy_equals_dilation_by_a_disk(one, two):
    assert boundary_accuracy(one, two) == pytest.approx(accuracy_by_dilation(one, two))


def test_accuracy_of_made_masks():
    one, empty = square(10, 10, 20), np.zeros((60, 80), bool)
    assert boundary_accuracy(one, one) == 1
    assert boundary_accuracy(one, square(10, 11, 20)) == 1, 'one pixel is within the tolerance of a 60x80 image'
    assert boundary_accuracy(one, square(40, 50, 10)) == 0
    assert boundary_accuracy(one, empty) == boundary_accuracy(empty, one) == 0
    assert boundary_accuracy(empty, empty) == 1


def test_statistics_over_frames():
    values = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]
    found = over_frames(values)
    assert found.mean == pytest.approx(0.65)
    assert found.recall == pytest.approx(5 / 8), '0.5 itself is not above 0.5'
    # Quarters of 8 frames end at frames 1, 3 (2.75), 5 (4.5), 6 (6.25), 8: those of the challenge share their borders.
    assert found.decay == pytest.approx(np.mean(values[0:3]) - np.mean(values[5:8]))
    assert over_frames([0.7]) == pytest.approx((0.7, 1.0, 0.0))
