"""One patch of each square, some of them hidden again, as likely as in a plain loop over all possibilities."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict

import pytest
import torch

from mstkit.errors import UsageError
from mstkit.models import UniformMasker
from mstkit.structures import MaskContext, Progress


def visible_in(masker: UniformMasker, grid: tuple[int, int], images: int, iteration: int = 0) -> torch.Tensor:
    masker.set_progress(Progress(iteration, 100, 10, 1, iteration))
    return ~masker(MaskContext(torch.zeros(images, 3, 1, 1), grid))


def squares_of(grid: tuple[int, int], top: int, left: int) -> list[list[int]]:
    """The patches of each square when the first one holds ``2 - top`` rows and ``2 - left`` columns of the grid."""
    found: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row, column in itertools.product(range(grid[0]), range(grid[1])):
        found[(row + top) // 2, (column + left) // 2].append(row * grid[1] + column)
    return list(found.values())


def by_a_plain_loop(grid: tuple[int, int], shown: int) -> dict[frozenset[int], float]:
    """The probability of each set of visible patches."""
    expected: defaultdict[frozenset[int], float] = defaultdict(float)
    starts = list(itertools.product(*(range(1 + side % 2) for side in grid)))
    for top, left in starts:
        samples = list(itertools.product(*squares_of(grid, top, left)))
        for sample in samples:
            subsets = list(itertools.combinations(sample, shown))
            for subset in subsets:
                expected[frozenset(subset)] += 1 / len(starts) / len(samples) / len(subsets)
    return expected


@pytest.mark.parametrize(
    ('grid', 'secondary', 'shown'),
    [((2, 4), 0.0, 2), ((4, 2), 0.5, 1), ((2, 3), 0.0, 2), ((3, 3), 0.25, 3), ((1, 3), 0.25, 1), ((1, 1), 0.0, 1)],
)
def test_masks_are_as_likely_as_in_a_plain_loop(grid, secondary, shown):
    images = 20_000
    powers = 2 ** torch.arange(grid[0] * grid[1])
    codes = Counter((visible_in(UniformMasker(secondary), grid, images).flatten(1) * powers).sum(1).tolist())
    expected = by_a_plain_loop(grid, shown)
    assert sum(expected.values()) == pytest.approx(1)
    assert set(codes) <= {sum(2**index for index in subset) for subset in expected}
    for subset, probability in expected.items():
        deviation = math.sqrt(probability * (1 - probability) / images)
        found = codes[sum(2**index for index in subset)] / images
        assert found == pytest.approx(probability, abs=5 * deviation), subset


@pytest.mark.parametrize('grid', [(14, 14), (6, 10), (7, 7), (5, 8), (1, 1)])
@pytest.mark.parametrize('secondary', [0.0, 0.25, 0.3, 1.0])
def test_counts_are_those_of_the_published_code(grid, secondary):
    sampled = math.ceil(grid[0] / 2) * math.ceil(grid[1] / 2)
    visible = visible_in(UniformMasker(secondary), grid, 64).flatten(1).sum(1)
    assert (visible == math.floor(sampled * round(1 - secondary, 10))).all()
    assert UniformMasker(secondary).equal_counts


def test_every_square_of_an_even_grid_has_one():
    visible = visible_in(UniformMasker(0), (6, 10), 100)
    assert (visible.view(100, 3, 2, 5, 2).sum((2, 4)) == 1).all()
    fewer = visible_in(UniformMasker(0.25), (6, 10), 100).view(100, 3, 2, 5, 2).sum((2, 4))
    assert fewer.max() == 1 and (fewer.sum((1, 2)) == 11).all()


def test_the_share_in_the_docs():
    hidden = ~visible_in(UniformMasker(), (8, 8), 4)
    assert hidden.float().mean() == 0.8125
    assert (~visible_in(UniformMasker(secondary=0), (8, 8), 4)).float().mean() == 0.75


def test_halved_squares_are_at_either_edge():
    """Else the last corner of an odd grid would be sampled in every image."""
    share = visible_in(UniformMasker(0), (5, 7), 20_000).float().mean(0)
    for mirrored in (share.flip(0), share.flip(1)):
        assert (share - mirrored).abs().max() < 0.03
    assert 0.2 < share.min() < share.max() < 0.6


def test_image_prob_is_the_share_of_masked_images():
    masked = (~visible_in(UniformMasker(image_prob=0.25), (4, 4), 4000)).flatten(1)
    assert masked.any(1).float().mean().item() == pytest.approx(0.25, abs=0.035)
    assert not UniformMasker(image_prob=0.25).equal_counts


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(secondary=1.5), r'UniformMasker.secondary is 1\.5'),
        (dict(secondary='no'), "UniformMasker.secondary is 'no'"),
        (dict(image_prob=-1), 'UniformMasker.image_prob is -1'),
    ],
)
def test_mistakes_are_told(settings, message):
    with pytest.raises(UsageError, match=message):
        UniformMasker(**settings)


def test_repr():
    assert repr(UniformMasker()) == 'UniformMasker(secondary=0.25)'
    assert repr(UniformMasker(0, 0.5)) == 'UniformMasker(secondary=0.0, image_prob=0.5)'
