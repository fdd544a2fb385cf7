"""Circularly shifted block masks, and ratios that are stratified over a batch, against plain loops."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mstkit.errors import UsageError
from mstkit.models import BlockMasker, Masker, MultinomialMasker, RatioSchedule
from mstkit.models.maskers.functional import rolled
from mstkit.models.maskers.masking_ratio import draw_stratified_counts
from mstkit.structures import MaskContext, Progress

CPU = torch.device('cpu')


def draw(masker: Masker, batch: int, grid: tuple[int, int] = (14, 14), iteration: int = 0) -> torch.Tensor:
    masker.set_progress(Progress(iteration, 100, 10, 1, iteration))
    scores = torch.rand(batch, 2, grid[0] * grid[1], generator=torch.Generator().manual_seed(0))
    return masker(MaskContext(torch.zeros(batch, 3, 1, 1), grid, scores=scores))


@pytest.mark.parametrize('grid', [(4, 4), (3, 5), (1, 6), (1, 1)])
def test_each_mask_is_shifted_as_by_a_plain_loop(grid):
    """Every offset of both axes occurs, equally often, and the shift is torch's."""
    height, width = grid
    images = 600 * height * width
    hidden = torch.rand(images, height * width, generator=torch.Generator().manual_seed(1)) < 0.4
    found = rolled(hidden, grid, torch.Generator().manual_seed(2)).view(-1, height, width)
    offsets = torch.rand((images, 2), generator=torch.Generator().manual_seed(2)).tolist()
    seen: dict[tuple[int, int], int] = {}
    for before, after, (first, second) in zip(hidden.view(-1, height, width), found, offsets, strict=True):
        shift = int(first * height), int(second * width)
        seen[shift] = seen.get(shift, 0) + 1
        assert torch.equal(after, before.roll(shift, (0, 1)))
    assert len(seen) == height * width and all(abs(count - 600) < 5 * 600**0.5 for count in seen.values())


def test_shifted_blocks_hide_every_patch_equally_often():
    """Without the shift the corners are hidden least; the counts and, off, the masks are those without the option."""
    plain = draw(BlockMasker(ratio=0.3, image_prob=1.0), 3000)
    shifted = draw(BlockMasker(ratio=0.3, image_prob=1.0, roll=True), 3000)
    assert torch.equal(draw(BlockMasker(ratio=0.3, image_prob=1.0, roll=False), 3000), plain)
    assert (shifted.flatten(1).sum(1) == 58).all()
    share = shifted.float().mean(0)
    assert (share - 58 / 196).abs().max() < 5 * (0.296 * 0.704 / 3000) ** 0.5
    assert plain.float().mean(0).min() < 0.1
    around = [mask.float() * mask.roll(1, axis).float() for mask in (shifted,) for axis in (1, 2)]
    assert sum(one.sum() for one in around) / shifted.sum() > 1.4, 'blocks stay blocks across the edges'
    half = draw(BlockMasker(ratio=0.3, image_prob=0.5, roll=True), 3000).flatten(1).sum(1)
    assert set(half.tolist()) == {0, 58} and abs((half > 0).float().mean() - 0.5) < 0.05


def plainly_stratified(low: float, high: float, prob: float, batch: int, grid: tuple[int, int], seed: int) -> list[int]:
    """DINOv2's rule, image by image, with the draws of a generator of this seed."""
    uniform, keys = torch.rand((2, batch), generator=torch.Generator().manual_seed(seed)).double().tolist()
    masked = int(batch * prob)
    edges = torch.linspace(low, high, masked + 1, dtype=torch.float64).tolist()
    made = []
    for i in range(batch):
        ratio = edges[i] + uniform[i] * (edges[i + 1] - edges[i]) if i < masked else 0.0
        made.append(int(ratio * grid[0] * grid[1]))
    return [made[i] for i in sorted(range(batch), key=lambda i: keys[i])]


@pytest.mark.parametrize(('low', 'high'), [(0.1, 0.5), (0.0, 1.0), (0.3, 0.3)])
@pytest.mark.parametrize(('prob', 'batch'), [(0.5, 16), (0.5, 7), (1.0, 5), (0.0, 4), (0.3, 3)])
@pytest.mark.parametrize('grid', [(14, 14), (3, 5)])
def test_stratified_counts_are_those_of_a_plain_loop(low, high, prob, batch, grid):
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        found = draw_stratified_counts((low, high), grid, prob, batch, generator, CPU)
        assert found.shape == (batch, 1)
        assert found.flatten().tolist() == plainly_stratified(low, high, prob, batch, grid, seed)


@pytest.mark.parametrize('make', [BlockMasker, MultinomialMasker])
def test_a_stratified_batch_covers_the_range_of_ratios(make: Any):
    """One count in each interval of linspace(.1, .5, 21), and exactly half of the images are left whole."""
    masker, places = make(ratio=(0.1, 0.5), image_prob=0.5, stratified=True), torch.zeros(40)
    edges = torch.linspace(0.1, 0.5, 21, dtype=torch.float64) * 196
    for iteration in range(50):
        counts = draw(masker, 40, iteration=iteration).flatten(1).sum(1)
        masked = counts.sort().values[20:]
        assert (counts > 0).sum() == 20
        assert (masked >= edges[:-1].floor()).all() and (masked <= edges[1:]).all()
        places += counts > 0
    assert places.min() > 8 and places.max() < 42, 'any image is masked in half of the steps'


def test_both_options_together_and_in_a_schedule():
    masker = BlockMasker(image_prob=0.5, roll=True, stratified=True)
    assert not masker.equal_counts and BlockMasker(ratio=0.3, image_prob=1.0, roll=True, stratified=True).equal_counts
    assert 'roll=True' in repr(masker) and 'stratified=True' in repr(masker)
    schedule = RatioSchedule(masker, start=0.25, end=0.5, epochs=2)
    for iteration, count in ((0, 49), (10, 73), (20, 98)):
        counts = draw(schedule, 6, iteration=iteration).flatten(1).sum(1)
        assert sorted(counts.tolist()) == [0] * 3 + [count] * 3


@pytest.mark.parametrize('option', ['roll', 'stratified'])
def test_what_is_no_flag_is_refused(option):
    with pytest.raises(UsageError, match=rf"BlockMasker\.{option}.*'yes'"):
        BlockMasker(**{option: 'yes'})
