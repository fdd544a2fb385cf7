"""One visible block, as in a plain loop over all blocks, and rolled around the grid."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import pytest
import torch

from mstkit.errors import UsageError
from mstkit.models import InverseBlockMasker
from mstkit.structures import MaskContext, Progress


def visible_in(masker: InverseBlockMasker, grid: tuple[int, int], images: int, iteration: int = 0) -> torch.Tensor:
    masker.set_progress(Progress(iteration, 100, 10, 1, iteration))
    return ~masker(MaskContext(torch.zeros(images, 3, 1, 1), grid))


def codes(visible: torch.Tensor) -> list[int]:
    """The visible patches of each image as a binary number, whose bit ``l`` is patch ``l``."""
    return (visible.flatten(1) * 2 ** torch.arange(visible[0].numel())).sum(1).tolist()


def sides_by_chance(area: int, grid: tuple[int, int], steps: int = 4000) -> dict[tuple[int, int], float]:
    """The probability of each (rows, columns), over evenly spaced logarithms of the aspect."""
    height, width = grid
    low, high = max(math.log(0.5), math.log(area / width**2)), min(math.log(2), math.log(height**2 / area))
    found: Counter[tuple[int, int]] = Counter()
    for step in range(steps):
        aspect = math.exp(low + (high - low) * (step + 0.5) / steps)
        found[math.ceil(math.sqrt(area * aspect)), math.ceil(math.sqrt(area / aspect))] += 1
    return {sides: count / steps for sides, count in found.items()}


def by_a_plain_loop(area: int, grid: tuple[int, int]) -> dict[int, float]:
    """The probability of each set of visible patches (:func:`codes`): every block at every place, then every shift."""
    height, width = grid
    expected: defaultdict[int, float] = defaultdict(float)
    for (rows, columns), probability in sides_by_chance(area, grid).items():
        block = [(row, column) for row in range(rows) for column in range(columns)][:area]
        places = [(top, left) for top in range(height - rows + 1) for left in range(width - columns + 1)]
        shifts = [(down, right) for down in range(height) for right in range(width)]
        for top, left in places:
            for down, right in shifts:
                cells = [((top + r + down) % height, (left + c + right) % width) for r, c in block]
                expected[sum(2 ** (row * width + column) for row, column in cells)] += (
                    probability / len(places) / len(shifts)
                )
    return expected


@pytest.mark.parametrize(('grid', 'area'), [((4, 6), 8), ((5, 3), 5), ((4, 4), 7)])
def test_blocks_are_as_likely_as_in_a_plain_loop(grid, area):
    images, length = 20_000, grid[0] * grid[1]
    masker = InverseBlockMasker(ratio=(length - area + 0.5) / length)
    found = Counter(codes(visible_in(masker, grid, images)))
    expected = by_a_plain_loop(area, grid)
    assert sum(expected.values()) == pytest.approx(1)
    assert set(found) <= set(expected), 'nothing but such blocks'
    for code, probability in expected.items():
        deviation = math.sqrt(probability * (1 - probability) / images)
        assert found[code] / images == pytest.approx(probability, abs=5 * deviation + 3e-4), bin(code)


@pytest.mark.parametrize('grid', [(14, 14), (7, 12), (2, 16), (16, 2), (1, 9), (1, 1)])
def test_counts_are_exact_on_any_grid(grid):
    """Also where no block of that aspect fits: then the nearest one that does."""
    length = grid[0] * grid[1]
    for hidden in range(0, length + 1, max(1, length // 16)):
        masker = InverseBlockMasker(ratio=min(1, (hidden + 0.5) / length))
        assert masker.equal_counts
        visible = visible_in(masker, grid, 32).flatten(1).sum(1)
        assert (visible == (length - hidden if hidden < length else 0)).all()


def test_a_block_that_cannot_have_its_aspect_is_the_nearest():
    visible = visible_in(InverseBlockMasker(ratio=0.5), (2, 16), 50)
    assert torch.equal(visible[:, 0], visible[:, 1])
    assert (visible[:, 0].sum(1) == 8).all()


def test_rolled_blocks_show_every_patch_alike():
    visible = visible_in(InverseBlockMasker(), (6, 9), 20_000).float().mean(0)
    share = (54 - int(0.65 * 54)) / 54
    deviation = math.sqrt(share * (1 - share) / 20_000)
    assert (visible - share).abs().max() < 5 * deviation


def test_each_image_has_a_ratio_of_its_own():
    counts = visible_in(InverseBlockMasker(ratio=(0.5, 0.8)), (10, 10), 500).flatten(1).sum(1)
    assert 20 <= counts.min() < 24 and 46 < counts.max() <= 50
    assert not InverseBlockMasker(ratio=(0.5, 0.8)).equal_counts


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(ratio=-0.1), r'InverseBlockMasker.ratio is -0\.1'),
        (dict(image_prob=2), 'image_prob is 2'),
        (dict(aspect=(0, 1)), r'InverseBlockMasker.aspect\[0\] is 0'),
        (dict(aspect=(2, 1)), 'the smaller number first'),
    ],
)
def test_mistakes_are_told(settings, message):
    with pytest.raises(UsageError, match=message):
        InverseBlockMasker(**settings)


def test_repr_says_what_differs():
    assert repr(InverseBlockMasker()) == 'InverseBlockMasker(ratio=0.65)'
    text = repr(InverseBlockMasker((0.5, 0.7), 0.5, (1, 1)))
    assert text == 'InverseBlockMasker(ratio=(0.5, 0.7), image_prob=0.5, aspect=(1.0, 1.0))'
