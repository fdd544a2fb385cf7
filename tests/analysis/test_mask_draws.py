from __future__ import annotations

import pytest
import torch

from mstkit.analysis import draw_until_masked, draw_with, importance_map, measure_masker
from mstkit.models import (
    AttentionGuidedMasker,
    AttMaskHigh,
    AttMaskLow,
    BlockMasker,
    MaskerSchedule,
    RandomMasker,
    RatioSchedule,
    ThrowingMasker,
)
from mstkit.structures import MaskContext


def batch(images: int = 8, grid: tuple[int, int] = (8, 8), seed: int = 0) -> MaskContext:
    length = grid[0] * grid[1]
    generator = torch.Generator().manual_seed(seed)
    attention = torch.softmax(2 * torch.randn(images, 2, length, generator=generator), dim=-1)
    return MaskContext(torch.zeros(images, 3, 1, 1), grid, scores=attention)


def test_importance_is_the_mean_over_heads_on_the_grid():
    seen = batch(2, (3, 5))
    assert importance_map(seen).shape == (2, 3, 5)
    assert seen.scores is not None and importance_map(seen)[1, 2, 4] == seen.scores[1, :, 14].mean()
    with pytest.raises(ValueError, match='attention'):
        importance_map(seen._replace(scores=None))


def test_draws_are_keyed_by_seed_and_iteration():
    masker, seen = RandomMasker(ratio=0.3), batch()
    first = draw_with(masker, seen, 1, 5)
    assert torch.equal(first, draw_with(masker, seen, 1, 5))
    assert not torch.equal(first, draw_with(masker, seen, 1, 6))
    assert not torch.equal(first, draw_with(masker, seen, 2, 5))


def test_epochs_reach_the_schedules():
    seen = batch()
    growing = RatioSchedule(RandomMasker(ratio=0.1), start=0.25, end=0.75, epochs=10)
    assert [draw_with(growing, seen, 0, 0, epoch).float().mean().item() for epoch in (0, 5, 10, 99)] == [
        0.25,
        0.5,
        0.75,
        0.75,
    ]
    late = MaskerSchedule([(0, None), (3, RandomMasker(ratio=0.5))])
    assert not draw_with(late, seen, 0, 0, 2).any()
    assert draw_with(late, seen, 0, 0, 3).any()


def test_measured_amounts_are_those_configured():
    seen = [batch(8, seed=number) for number in range(8)]
    random = measure_masker(RandomMasker(ratio=0.25, image_prob=0.5), seen, seed=0, draws=8)
    assert random.masks == 8 * 64
    assert random.hidden == 0.25
    assert random.whole == pytest.approx(0.5, abs=0.1)
    assert random.hidden_overall == pytest.approx(0.25 * (1 - random.whole))
    assert random.attention_mass == pytest.approx(0.25, abs=0.03)
    assert random.top_attention == pytest.approx(0.25, abs=0.06)


def test_strategies_differ_where_they_should():
    seen = [batch(8, seed=number) for number in range(4)]
    share = dict(ratio=0.25, image_prob=1.0)
    rows = {
        type(masker).__name__: measure_masker(masker, seen, seed=0, draws=2)
        for masker in (
            RandomMasker(**share),
            BlockMasker(**share),
            AttMaskHigh(**share),
            AttMaskLow(**share),
            AttentionGuidedMasker(num=4, prob=0.5),
        )
    }
    assert rows['AttMaskHigh'].top_attention == 1
    assert rows['AttMaskLow'].top_attention == rows['AttentionGuidedMasker'].top_attention == 0
    assert rows['AttMaskLow'].attention_mass < 0.1 < rows['RandomMasker'].attention_mass
    assert rows['RandomMasker'].attention_mass < rows['AttMaskHigh'].attention_mass
    assert rows['BlockMasker'].cohesion > 2 * rows['RandomMasker'].cohesion
    assert rows['BlockMasker'].components < rows['RandomMasker'].components
    assert rows['AttentionGuidedMasker'].hidden == pytest.approx(0.125, abs=0.02)


def test_every_image_is_shown_with_a_mask():
    masker, seen = AttMaskHigh(image_prob=0.2), batch(16)
    assert not draw_with(masker, seen, 3, 0).flatten(1).any(dim=1).all()
    drawn, masked = draw_until_masked(masker, seen, seed=3)
    shown = drawn.hidden
    assert masked.all()
    assert torch.equal(shown, draw_until_masked(masker, seen, seed=3)[0].hidden)
    # Each image's mask is the first draw of the masker in which there is one.
    draws = torch.stack([draw_with(masker, seen, 3, iteration) for iteration in range(64)])
    first = draws.flatten(2).any(dim=2).int().argmax(dim=0)
    assert first.max() > 0
    assert torch.equal(shown, draws[first, torch.arange(16)])


def test_the_search_for_a_mask_ends():
    shown, masked = draw_until_masked(RandomMasker(prob=0.0), batch(3), seed=0, tries=5)
    assert not shown.hidden.any() and shown.thrown is None
    assert not masked.any()


def test_thrown_patches_are_those_of_the_draw_that_is_shown():
    masker, seen = ThrowingMasker(ratio=0.25, throw=0.5, order='ranked', image_prob=0.3), batch(16)
    shown, masked = draw_until_masked(masker, seen, seed=3)
    assert masked.all() and shown.thrown is not None and not (shown.hidden & shown.thrown).any()
    assert (shown.hidden.flatten(1).sum(dim=1) == 16).all() and (shown.thrown.flatten(1).sum(dim=1) == 32).all()
    row = measure_masker(masker, [seen], seed=0, draws=64)
    assert row.thrown == pytest.approx(0.5 * (1 - row.whole))
    assert measure_masker(RandomMasker(ratio=0.5), [seen], seed=0, draws=1).thrown == 0
