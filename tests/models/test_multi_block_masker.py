"""A context block without target blocks, as likely as in a plain loop over all sizes and places."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict

import pytest
import torch

from mstkit.errors import UsageError
from mstkit.models import MultiBlockMasker
from mstkit.models.maskers.multi_block_masker import placed_blocks
from mstkit.structures import MaskContext, Progress

Range = tuple[float, float]


def visible_in(masker: MultiBlockMasker, grid: tuple[int, int], images: int, iteration: int = 0) -> torch.Tensor:
    masker.set_progress(Progress(iteration, 100, 10, 1, iteration))
    return ~masker(MaskContext(torch.zeros(images, 3, 1, 1), grid))


def sizes_by_chance(scale: Range, aspect: Range, grid: tuple[int, int], steps: int = 200) -> Counter[tuple[int, int]]:
    """How many of evenly spaced scales and aspects give each (rows, columns)."""
    found: Counter[tuple[int, int]] = Counter()
    for i, j in itertools.product(range(steps), repeat=2):
        area = int(grid[0] * grid[1] * (scale[0] + (scale[1] - scale[0]) * (i + 0.5) / steps))
        ratio = aspect[0] + (aspect[1] - aspect[0]) * (j + 0.5) / steps
        tall, wide = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        found[min(max(tall, 1), grid[0]), min(max(wide, 1), grid[1])] += 1
    return found


def blocks_of(size: tuple[int, int], grid: tuple[int, int]) -> list[set[int]]:
    """The patches of a block at each place where it fits."""
    places = itertools.product(range(grid[0] - size[0] + 1), range(grid[1] - size[1] + 1))
    return [
        {(top + row) * grid[1] + left + column for row in range(size[0]) for column in range(size[1])}
        for top, left in places
    ]


def by_a_plain_loop(masker: MultiBlockMasker, grid: tuple[int, int]) -> dict[int, float]:
    """The probability of each set of visible patches, as a binary number whose bit ``l`` is patch ``l``."""
    expected: defaultdict[int, float] = defaultdict(float)
    contexts = sizes_by_chance(masker.context_scale, (1.0, 1.0), grid)
    sizes = sizes_by_chance(masker.target_scale, masker.target_aspect, grid)
    for (context_size, m), (size, n) in itertools.product(contexts.items(), sizes.items()):
        places = list(itertools.product(blocks_of(context_size, grid), *[blocks_of(size, grid)] * masker.targets))
        for context, *targets in places:
            visible = context.difference(*targets)
            while targets and len(visible) < math.ceil(masker.min_visible * grid[0] * grid[1]):
                targets.pop()
                visible = context.difference(*targets)
            code = sum(2**index for index in visible)
            expected[code] += m / contexts.total() * n / sizes.total() / len(places)
    return expected


@pytest.mark.parametrize(
    ('grid', 'settings'),
    [
        ((3, 4), dict(targets=2, target_scale=(0.2, 0.4), target_aspect=(0.5, 2.0), context_scale=(0.5, 1.0))),
        ((4, 3), dict(targets=2, target_scale=(0.1, 0.5), target_aspect=(1.0, 1.0), min_visible=0.5)),
        ((2, 5), dict(targets=1, target_scale=(0.3, 1.0), target_aspect=(0.2, 1.0), context_scale=(0.1, 0.5))),
    ],
)
def test_masks_are_as_likely_as_in_a_plain_loop(grid, settings):
    images, masker = 20_000, MultiBlockMasker(**settings)
    powers = 2 ** torch.arange(grid[0] * grid[1])
    found = Counter((visible_in(masker, grid, images).flatten(1) * powers).sum(1).tolist())
    expected = by_a_plain_loop(masker, grid)
    assert sum(expected.values()) == pytest.approx(1)
    assert set(found) <= set(expected)
    for code, probability in expected.items():
        deviation = math.sqrt(probability * (1 - probability) / images)
        assert found[code] / images == pytest.approx(probability, abs=5 * deviation + 1e-3), bin(code)


@pytest.mark.parametrize('grid', [(14, 14), (6, 11)])
def test_targets_reach_every_place(grid):
    """I-JEPA's do not: their last row and column of places are never drawn."""
    draw = torch.rand(4000, 1, 4, generator=torch.Generator().manual_seed(0)).double()
    blocks = placed_blocks(draw, (0.15, 0.2), (0.75, 1.5), grid).view(4000, *grid).float()
    share = blocks.mean(0)
    assert share.min() > 0
    for mirrored in (share.flip(0), share.flip(1)):
        assert (share - mirrored).abs().max() < 0.05
    assert (blocks.amax((1, 2)) == 1).all(), 'none is empty'


def test_targets_of_an_image_have_one_size_and_the_context_is_square():
    draws = torch.rand(500, 2, 4, generator=torch.Generator().manual_seed(0)).double()
    draws[:, 1, :2] = draws[:, 0, :2]
    area = placed_blocks(draws, (0.15, 0.2), (0.75, 1.5), (14, 14)).sum(2)
    assert torch.equal(area[:, 0], area[:, 1])
    context = placed_blocks(draws, (0.85, 1.0), (1.0, 1.0), (14, 14)).view(500, 2, 14, 14)
    assert torch.equal(context.any(2).sum(2), context.any(3).sum(2))
    assert {int(side) for side in context.any(2).sum(2).unique()} == {13, 14}, 'round(sqrt(166 to 196))'


@pytest.mark.parametrize('grid', [(14, 14), (8, 8), (4, 6), (2, 9), (1, 1)])
def test_enough_is_visible(grid):
    length = grid[0] * grid[1]
    for share in (0.05, 0.4):
        visible = visible_in(MultiBlockMasker(min_visible=share), grid, 1000).flatten(1).sum(1)
        assert visible.min() >= math.ceil(share * length - 1e-9)
    none_left = MultiBlockMasker(target_scale=(1.0, 1.0), target_aspect=(1.0, 1.0), min_visible=0.05)
    if grid[0] == grid[1]:
        assert (visible_in(none_left, grid, 8).flatten(1).float().mean(1) > 0.76).all(), '7x7 of 8x8'


def test_counts_differ_and_the_masker_says_so():
    assert visible_in(MultiBlockMasker(), (14, 14), 100).flatten(1).sum(1).unique().numel() > 20
    assert not MultiBlockMasker().equal_counts


def test_image_prob_is_the_share_of_masked_images():
    masked = (~visible_in(MultiBlockMasker(image_prob=0.25), (8, 8), 4000)).flatten(1).any(1)
    assert masked.float().mean().item() == pytest.approx(0.25, abs=0.035)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(targets=0), 'MultiBlockMasker.targets is 0'),
        (dict(targets=65), 'MultiBlockMasker.targets is 65'),
        (dict(target_scale=(0.2, 1.5)), r'MultiBlockMasker.target_scale\[1\] is 1\.5'),
        (dict(target_aspect=(1.5, 0.75)), 'the smaller number first'),
        (dict(context_scale=0.9), r'MultiBlockMasker.context_scale is 0\.9'),
        (dict(min_visible=2), 'MultiBlockMasker.min_visible is 2'),
        (dict(image_prob=-1), 'MultiBlockMasker.image_prob is -1'),
    ],
)
def test_mistakes_are_told(settings, message):
    with pytest.raises(UsageError, match=message):
        MultiBlockMasker(**settings)


def test_repr():
    assert repr(MultiBlockMasker(image_prob=0.5)) == (
        'MultiBlockMasker(targets=4, target_scale=(0.15, 0.2), context_scale=(0.85, 1.0), image_prob=0.5)'
    )
