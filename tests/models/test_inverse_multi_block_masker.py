"""Visible blocks around drawn centers, as likely as in a plain loop over all centers."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict

import pytest
import torch

from mstkit.errors import UsageError
from mstkit.models import InverseMultiBlockMasker, Masker, RandomMasker
from mstkit.structures import MaskContext, Progress


def visible_in(masker: Masker, grid: tuple[int, int], images: int, iteration: int = 0) -> torch.Tensor:
    masker.set_progress(Progress(iteration, 100, 10, 1, iteration))
    return ~masker(MaskContext(torch.zeros(images, 3, 1, 1), grid))


def covered_by(centers: tuple[int, ...], grid: tuple[int, int], block: int) -> set[int]:
    """The patches of the blocks; indices beyond an edge are clamped to it, as in the published code."""
    (height, width), found = grid, set()
    for center in centers:
        for i, j in itertools.product(range(block), range(block)):
            row = min(max(center // width + i - block // 2, 0), height - 1)
            column = min(max(center % width + j - block // 2, 0), width - 1)
            found.add(row * width + column)
    return found


def by_a_plain_loop(grid: tuple[int, int], visible: int, blocks: int, block: int) -> dict[int, float]:
    """The probability of each set of visible patches, as a binary number whose bit ``l`` is patch ``l``."""
    length = grid[0] * grid[1]
    expected: defaultdict[int, float] = defaultdict(float)
    for centers in itertools.product(range(length), repeat=blocks):
        covered = covered_by(centers, grid, block)
        if len(covered) >= visible:
            sets = list(itertools.combinations(covered, visible))
        else:
            others = set(range(length)) - covered
            sets = [(*covered, *more) for more in itertools.combinations(others, visible - len(covered))]
        for one in sets:
            expected[sum(2**index for index in one)] += 1 / length**blocks / len(sets)
    return expected


@pytest.mark.parametrize(
    ('grid', 'visible', 'blocks', 'settings'),
    [
        ((3, 4), 4, 1, dict(adjust=0.5)),  # int(10 / 9)
        ((5, 3), 8, 1, dict(adjust=0.0)),  # int(8 / 9) is 0: at least one
        ((2, 5), 3, 2, dict(block=2, adjust=0.5)),  # int(8 / 4)
        ((1, 6), 2, 2, dict(block=1, adjust=0.0)),
    ],
)
def test_masks_are_as_likely_as_in_a_plain_loop(grid, visible, blocks, settings):
    images, length = 20_000, grid[0] * grid[1]
    masker = InverseMultiBlockMasker((length - visible + 0.5) / length, **settings)
    found = Counter((visible_in(masker, grid, images).flatten(1) * 2 ** torch.arange(length)).sum(1).tolist())
    expected = by_a_plain_loop(grid, visible, blocks, settings.get('block', 3))
    assert sum(expected.values()) == pytest.approx(1)
    assert set(found) <= set(expected)
    for code, probability in expected.items():
        deviation = math.sqrt(probability * (1 - probability) / images)
        assert found[code] / images == pytest.approx(probability, abs=5 * deviation + 1e-4), bin(code)


@pytest.mark.parametrize('grid', [(14, 14), (7, 12), (2, 9), (1, 1)])
@pytest.mark.parametrize('block', [1, 3, 20])
def test_counts_are_exact(grid, block):
    length = grid[0] * grid[1]
    for ratio in (0.0, 0.5, 0.8, 1.0):
        masker = InverseMultiBlockMasker(ratio, block=block)
        assert (visible_in(masker, grid, 32).flatten(1).sum(1) == length - int(ratio * length)).all()
        assert masker.equal_counts


def test_each_image_has_a_ratio_of_its_own_and_blocks_for_it():
    masker = InverseMultiBlockMasker((0.1, 0.9))
    visible = visible_in(masker, (14, 14), 400)
    counts = visible.flatten(1).sum(1)
    assert 20 <= counts.min() < 30 and 167 < counts.max() <= 177 and not masker.equal_counts
    few = visible[counts < 60].float()
    pairs = (few[:, 1:] * few[:, :-1]).sum() + (few[..., 1:] * few[..., :-1]).sum()
    assert pairs / few.sum() > 1.1, 'also beside images that have many blocks'


def test_blocks_hang_together_but_for_what_is_filled_up():
    def neighbors(masker: Masker) -> float:
        visible = visible_in(masker, (14, 14), 500).float()
        return float((visible[:, 1:] * visible[:, :-1]).sum() / visible.sum())

    assert neighbors(InverseMultiBlockMasker()) > 0.5 > 0.25 > neighbors(RandomMasker(ratio=0.8))


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(ratio=1.2), r'InverseMultiBlockMasker.ratio is 1\.2'),
        (dict(block=0), 'InverseMultiBlockMasker.block is 0'),
        (dict(block=1.5), r'InverseMultiBlockMasker.block is 1\.5'),
        (dict(adjust=-0.1), r'InverseMultiBlockMasker.adjust is -0\.1'),
    ],
)
def test_mistakes_are_told(settings, message):
    with pytest.raises(UsageError, match=message):
        InverseMultiBlockMasker(**settings)


def test_repr():
    assert repr(InverseMultiBlockMasker()) == 'InverseMultiBlockMasker(ratio=0.8, block=3, adjust=0.07)'
