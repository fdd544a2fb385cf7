"""Every registered masker keeps the contract; each keeps its own promise."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from typing import Any

import pytest
import torch

from mstkit.errors import UsageError
from mstkit.models import (
    AttentionGuidedMasker,
    AttMaskHigh,
    AttMaskHint,
    AttMaskLow,
    BlockMasker,
    Masker,
    MaskerSchedule,
    RandomMasker,
    RatioSchedule,
    maskers,
)
from mstkit.models.maskers import functional
from mstkit.models.maskers.functional import blocks, draw_rectangles, importance_of, lowest
from mstkit.models.maskers.masking_ratio import draw_counts
from mstkit.models.maskers.ratio_masker import RatioMasker
from mstkit.registry import MODELS
from mstkit.structures import MaskContext, Progress

MASKERS = sorted(name for name, cls in MODELS.module_dict.items() if isinstance(cls, type) and issubclass(cls, Masker))
# What a masker needs that has no default; a composition needs the masker that it composes.
ARGUMENTS: dict[str, dict[str, Any]] = {
    'MaskerSchedule': dict(phases=[(0, dict(type='AttMaskHigh')), (50, None)]),
    'RatioSchedule': dict(masker=dict(type='BlockMasker'), start=0.2, end=0.6, epochs=4),
    'ShuffledMasker': dict(masker=dict(type='AttMaskHint', image_prob=1.0)),
}


def build(name: str, **options) -> Masker:
    return MODELS.build({'type': name, **ARGUMENTS.get(name, {}), **options})


def tokens(batch: int = 4, grid: tuple[int, int] = (14, 14), heads: int = 3, seed: int = 0) -> MaskContext:
    generator = torch.Generator().manual_seed(seed)
    length = grid[0] * grid[1]
    attention = torch.rand(batch, heads, length, generator=generator).softmax(dim=-1)
    of_patches = torch.randn(batch, length, 6, generator=generator)
    return MaskContext(torch.zeros(batch, 3, 1, 1), grid, of_patches, attention)


def scores_of(context: MaskContext) -> torch.Tensor:
    """What the guide says of each patch, the mean over its heads: (B, L)."""
    assert context.scores is not None
    return context.scores.mean(1)


def at(masker: Masker, iteration: int, rank_seed: int = 1) -> Masker:
    masker.set_progress(Progress(iteration, 100, 10, rank_seed, iteration))
    return masker


def test_all_maskers_of_this_project_are_registered():
    assert set(MASKERS) >= {
        'AttMaskHigh',
        'AttMaskHint',
        'AttMaskLow',
        'AttentionGuidedMasker',
        'BlockMasker',
        'ColorNoiseMasker',
        'InverseBlockMasker',
        'InverseMultiBlockMasker',
        'MaskerSchedule',
        'MultiBlockMasker',
        'MultinomialMasker',
        'ObjectMasker',
        'PartMasker',
        'PreferenceMasker',
        'RandomMasker',
        'RatioSchedule',
        'ShuffledMasker',
        'TopShareMasker',
        'UniformMasker',
    }
    for module in pkgutil.iter_modules(maskers.__path__, f'{maskers.__name__}.'):
        for name, cls in vars(importlib.import_module(module.name)).items():
            if inspect.isclass(cls) and issubclass(cls, Masker) and cls.__module__ == module.name:
                assert name in MASKERS or cls.__subclasses__(), f'{name} is neither registered nor a base class'
                assert getattr(maskers, name, None) is cls, f'{name} is not imported in {maskers.__name__}'


@pytest.mark.parametrize('name', MASKERS)
@pytest.mark.parametrize('grid', [(14, 14), (7, 7), (3, 5), (1, 1)])
def test_contract(name, grid):
    masker = build(name)
    seen = tokens(grid=grid)
    mask = at(masker, 0)(seen)
    assert mask.dtype == torch.bool
    assert mask.shape == (4, *grid)
    assert torch.equal(mask, at(masker, 0)(seen)), 'the same iteration repeats itself'
    assert torch.equal(mask, at(build(name), 0)(seen)), 'a resumed run repeats it'
    hidden, thrown = at(masker, 0).draw(seen)
    assert torch.equal(hidden, mask) and (thrown is not None) is masker.throws
    if thrown is not None:
        assert thrown.dtype == torch.bool and thrown.shape == mask.shape and not (thrown & hidden).any()


@pytest.mark.parametrize('name', MASKERS)
def test_iterations_and_ranks_differ(name):
    masker = build(name)
    seen = tokens(batch=64)
    base = at(masker, 0)(seen)
    assert not torch.equal(base, at(masker, 1)(seen))
    assert not torch.equal(base, at(masker, 0, rank_seed=2)(seen))


@pytest.mark.parametrize('name', MASKERS)
def test_global_randomness_is_neither_used_nor_touched(name):
    masker = build(name)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = at(masker, 3)(tokens())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(first, at(masker, 3)(tokens()))


@pytest.mark.parametrize(('num', 'length', 'candidates'), [(8, 196, 24), (2, 196, 98), (8, 49, 6), (1, 49, 49)])
def test_attention_guided_masks_only_the_least_attended(num, length, candidates):
    """Invariant 1: a subset of the lowest floor(L/num), each with probability p."""
    side = int(length**0.5)
    seen = tokens(batch=200, grid=(side, side))
    order = scores_of(seen).argsort(dim=-1)
    allowed = torch.zeros(200, length, dtype=torch.bool).scatter_(1, order[:, :candidates], True)
    masker = AttentionGuidedMasker(num=num, prob=0.10)
    counts = []
    for iteration in range(10):
        mask = at(masker, iteration)(seen).flatten(1)
        assert not (mask & ~allowed).any()
        counts.append(mask.sum(1).float())
    count = torch.cat(counts)
    deviation = (candidates * 0.1 * 0.9 / len(count)) ** 0.5
    assert abs(count.mean() - candidates * 0.1) < 4 * deviation
    assert at(AttentionGuidedMasker(num=num, prob=1.0), 0)(seen).flatten(1).equal(allowed)
    assert not at(AttentionGuidedMasker(num=num, prob=0.0), 0)(seen).any()


def test_ties_do_not_change_the_count():
    flat = tokens()._replace(scores=torch.full((4, 3, 196), 1 / 196))
    assert (at(AttentionGuidedMasker(num=8, prob=1.0), 0)(flat).flatten(1).sum(1) == 24).all()


def test_excluding_the_class_key_can_change_the_ranking():
    """Two heads, of which one gives most of its attention to the class token."""
    with_cls = torch.tensor([[0.05, 0.03, 0.92], [0.40, 0.55, 0.05]])  # last column: the class token
    attention = with_cls[:, :2].unsqueeze(0)
    sliced = importance_of(attention)
    renormalized = importance_of(attention, exclude_cls_key=True)
    torch.testing.assert_close(sliced, torch.tensor([[0.225, 0.29]]))
    expected = (with_cls[:, :2] / with_cls[:, :2].sum(1, keepdim=True)).mean(0, keepdim=True)
    torch.testing.assert_close(renormalized, expected)
    assert sliced.argmin() == 0
    assert renormalized.argmin() == 1


SHARES = {
    'AttMaskHigh': AttMaskHigh,
    'AttMaskHint': AttMaskHint,
    'AttMaskLow': AttMaskLow,
    'RandomMasker': RandomMasker,
    **{name: MODELS.get(name) for name in MASKERS if issubclass(MODELS.get(name), RatioMasker)},
}
# Any share can be hidden while nothing is thrown.
SHARES = {name: functools.partial(make, throw=0.0) if make.throws else make for name, make in SHARES.items()}


@pytest.mark.parametrize('make', SHARES.values(), ids=SHARES)
@pytest.mark.parametrize('grid', [(14, 14), (7, 7), (3, 5), (1, 1)])
@pytest.mark.parametrize('ratio', [0.0, 0.3, 0.75, 1.0])
def test_a_ratio_is_an_exact_count(make, grid, ratio):
    """Invariant 2, for every masker that promises a share; AttMaskHint shows some of it again."""
    length = grid[0] * grid[1]
    expected = int(ratio * length)
    if make is AttMaskHint:
        expected -= min(int(0.1 * ratio * length), expected)
    for iteration in range(3):
        hidden = at(make(ratio=ratio, image_prob=1.0), iteration)(tokens(batch=16, grid=grid)).flatten(1)
        assert (hidden.sum(1) == expected).all()
    assert not at(make(ratio=ratio, image_prob=0.0), 0)(tokens(grid=grid)).any(), 'invariant 3'


@pytest.mark.parametrize('grid', [(14, 14), (7, 7), (10, 10), (12, 10)])
def test_counts_are_those_of_the_published_code(grid):
    """int(r * H * W) in iBOT's loader and int(N * r) in AttMask's code, whose products round differently."""
    length = grid[0] * grid[1]
    seen, told_apart = tokens(batch=1, grid=grid), 0
    for hundredths in (*range(0, 101, 7), 29, 57, 58):
        ratio = hundredths / 100
        ibot, attmask = int(ratio * grid[0] * grid[1]), int(length * ratio)
        told_apart += ibot != attmask
        for name, count in dict(RandomMasker=ibot, BlockMasker=ibot, AttMaskHigh=attmask, AttMaskLow=attmask).items():
            assert at(build(name, ratio=ratio, image_prob=1.0), 0)(seen).sum() == count, (name, ratio)
    assert told_apart or grid != (10, 10)


def test_drawn_counts_are_whole_parts_of_doubles():
    """Where single precision would round r L up to the next whole number."""
    bounds, generator = (0.1, 0.5), torch.Generator()
    device = torch.device('cpu')
    found = draw_counts(bounds, (14, 14), 20_000, generator.manual_seed(0), device).flatten().tolist()
    draws = torch.rand(20_000, generator=generator.manual_seed(0)).tolist()
    assert found == [int((0.1 + (0.5 - 0.1) * draw) * 14 * 14) for draw in draws]
    found = draw_counts(bounds, (196,), 20_000, generator.manual_seed(1), device, of=0.1).flatten().tolist()
    draws = torch.rand(20_000, generator=generator.manual_seed(1)).tolist()
    assert found == [int((0.1 + (0.5 - 0.1) * draw) * 0.1 * 196) for draw in draws]


@pytest.mark.parametrize('make', SHARES.values(), ids=SHARES)
def test_image_prob_is_the_share_of_masked_images(make):
    """Invariant 3: each crop by itself."""
    masked = torch.cat(
        [at(make(ratio=0.3, image_prob=0.5), i)(tokens(batch=200)).flatten(1).any(1) for i in range(10)]
    ).float()
    assert abs(masked.mean() - 0.5) < 4 * 0.5 / len(masked) ** 0.5


@pytest.mark.parametrize('make', [AttMaskHigh, AttMaskLow])
def test_attmask_draws_one_ratio_for_the_batch(make):
    counts = []
    for iteration in range(300):
        count = at(make(image_prob=1.0), iteration)(tokens(batch=3)).flatten(1).sum(1)
        assert (count == count[0]).all()
        counts.append(int(count[0]))
    assert min(counts) >= 19
    assert max(counts) <= 98
    assert min(counts) < 30
    assert max(counts) > 88
    mean, deviation = 196 * 0.3 - 0.5, 196 * 0.4 / 12**0.5  # of the floor of an even draw
    assert abs(sum(counts) / 300 - mean) < 4 * deviation / 300**0.5


@pytest.mark.parametrize('make', [make for name, make in SHARES.items() if not name.startswith('AttMask')])
def test_random_masks_draw_a_ratio_for_each_image(make):
    count = at(make(ratio=(0.1, 0.5), image_prob=1.0), 0)(tokens(batch=300)).flatten(1).sum(1)
    assert count.min() >= 19
    assert count.max() <= 98
    assert len(count.unique()) > 50


def test_high_and_low_are_the_ends_of_the_ranking():
    """Invariant 2: disjoint up to a half, and nothing attended less (more) is hidden in place of more (less)."""
    seen = tokens(batch=8)
    importance = scores_of(seen)
    high = at(AttMaskHigh(ratio=0.5, image_prob=1.0), 0)(seen).flatten(1)
    low = at(AttMaskLow(ratio=0.5, image_prob=1.0), 0)(seen).flatten(1)
    assert not (high & low).any()
    assert (high | low).all()
    for row, h in zip(importance, high, strict=True):
        assert row[h].min() > row[~h].max()


def test_hints_are_a_few_of_the_most_attended():
    """A subset of High: floor(show_max r' L) of the first floor(show_max L) are shown, any of them."""
    seen = tokens(batch=64)
    first = scores_of(seen).argsort(dim=-1, descending=True)[:, :19]
    shown_at = torch.zeros(19)
    for iteration in range(20):
        # With both draws from the same masker the ratio itself is that of High at the same key.
        high = at(AttMaskHigh(image_prob=1.0), iteration)(seen).flatten(1)
        hint = at(AttMaskHint(image_prob=1.0), iteration)(seen).flatten(1)
        assert not (hint & ~high).any()
        shown = (high & ~hint).gather(1, first)
        counts = (high & ~hint).sum(1)
        assert (counts == shown.sum(1)).all(), 'nothing else is shown'
        assert (counts == counts[0]).all()
        assert 1 <= counts[0] <= 9
        shown_at += shown.float().mean(0)
    assert shown_at.min() > 0
    assert shown_at.max() / shown_at.min() < 2, 'every one of them alike'


def test_blocks_reach_every_cell_alike():
    """Invariant 14, which BEiT's generator in mmpretrain breaks: the last row and column are hidden too."""
    hidden = at(BlockMasker(ratio=0.3, image_prob=1.0), 0)(tokens(batch=4000)).float().mean(0)
    assert hidden.min() > 0.01, 'the corners are reached least'
    torch.testing.assert_close(hidden, hidden.flip(1), atol=0.05, rtol=0)
    torch.testing.assert_close(hidden[0], hidden[:, 0], atol=0.05, rtol=0)


@pytest.mark.parametrize(
    'name', [name for name in MASKERS if not build(name).needs_scores and name != 'MaskerSchedule']
)
@pytest.mark.parametrize('grid', [(7, 7), (5, 8)])
def test_every_patch_can_be_hidden_and_can_be_visible(name, grid):
    """Of every masker that does not look at the image, whatever the place of the patch."""
    hidden = at(build(name), 0)(tokens(batch=2000, grid=grid))
    assert hidden.any(0).all(), 'hidden'
    assert not hidden.all(0).any(), 'visible'


def test_blocks_hang_together_and_random_cells_do_not():
    def neighbors(mask: torch.Tensor) -> float:
        mask = mask.float()
        pairs = (mask[:, 1:] * mask[:, :-1]).sum() + (mask[..., 1:] * mask[..., :-1]).sum()
        return float(pairs / mask.sum())

    seen = tokens(batch=500)
    block = neighbors(at(BlockMasker(ratio=0.3, image_prob=1.0), 0)(seen))
    alone = neighbors(at(RandomMasker(ratio=0.3), 0)(seen))
    assert block > 1.4 > 0.6 > alone


def squares(mask: torch.Tensor) -> torch.Tensor:
    """How many 2x2 squares of each mask (B, h, w) are hidden whole."""
    return (mask[:, 1:, 1:] & mask[:, :-1, 1:] & mask[:, 1:, :-1] & mask[:, :-1, :-1]).flatten(1).sum(dim=1)


def test_no_block_is_larger_than_the_largest(monkeypatch):
    drawn = []

    def noted(*args):
        drawn.append(draw_rectangles(*args))
        return drawn[-1]

    monkeypatch.setattr(functional, 'draw_rectangles', noted)
    for most, square in ((None, (1.0, 1.0)), (9, (1.0, 1.0)), (4, (1.0, 1.0))):
        drawn.clear()
        mask = at(BlockMasker(ratio=0.75, image_prob=1.0, max_block=most, aspect=square), 0)(tokens(batch=200))
        assert (mask.flatten(1).sum(dim=1) == 147).all()
        largest = max(int(one.flatten(1).sum(dim=1).max()) for one in drawn)
        assert largest == most if most else largest > 100
    with pytest.raises(UsageError, match=r'BlockMasker\.max_block is 3: give a whole number .*4'):
        BlockMasker(min_block=4, max_block=3)


def test_scattered_patches_lie_beside_the_blocks():
    """Four in a square and as many anywhere; all of them anywhere; and by default none."""
    given = dict(ratio=8.5 / 196, image_prob=1.0, min_block=4, max_block=4, aspect=(1.0, 1.0))
    half, none, every = (at(BlockMasker(scattered=share, **given), 0)(tokens(batch=500)) for share in (0.5, 0.0, 1.0))
    assert all((mask.flatten(1).sum(dim=1) == 8).all() for mask in (half, none, every))
    assert (squares(half) >= 1).all() and (squares(half) == 1).float().mean() > 0.95
    assert (squares(none) >= 2).float().mean() > 0.9 and (squares(every) == 0).float().mean() > 0.98
    assert half.float().mean(dim=0).min() > 0


@pytest.mark.parametrize('grid', [(1, 1), (2, 9), (30, 3)])
def test_blocks_end_and_fill_any_grid(grid):
    length = grid[0] * grid[1]
    counts = torch.randint(0, length + 1, (64, 1), generator=torch.Generator().manual_seed(0))
    for min_block in (1, 4, 500):
        made = blocks(counts, grid, min_block, (0.3, 1 / 0.3), torch.Generator().manual_seed(1))
        assert torch.equal(made.sum(1, keepdim=True), counts)


def test_schedule_changes_the_strategy_by_the_epoch():
    phases = [(0, None), (2, dict(type='RandomMasker', ratio=0.25)), (5, dict(type='AttMaskHigh', layer=-3))]
    masker = MaskerSchedule(phases)
    seen = tokens()
    for epoch, (count, asks, layer) in enumerate([(0, False, -1)] * 2 + [(49, False, -1)] * 3 + [(None, True, -3)] * 2):
        masker.set_progress(Progress(epoch * 10, 100, 10, 1, epoch * 10))
        assert masker.needs_scores is asks, 'nobody computes attention in a phase that needs none'
        assert masker.layer == layer
        if count is not None:
            assert (masker(seen._replace(scores=None)).flatten(1).sum(1) == count).all()
    alone = AttMaskHigh(layer=-3)
    alone.set_progress(Progress(60, 100, 10, 1, 60))
    assert torch.equal(masker(seen), alone(seen)), 'a phase is its masker'
    assert [type(part).__name__ for part in masker.parts()] == ['RandomMasker', 'AttMaskHigh']


def test_ratio_moves_by_the_epoch():
    masker = RatioSchedule(dict(type='AttMaskHigh', image_prob=1.0), start=0.0, end=0.5, epochs=5)
    counts = []
    for epoch in range(8):
        masker.set_progress(Progress(epoch * 10, 80, 10, 1, epoch * 10))
        counts.append(int(masker(tokens()).flatten(1).sum(1)[0]))
    assert counts == [int(share * 196 + 1e-9) for share in (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.5)]
    assert masker.needs_scores
    nested = MaskerSchedule([(0, RatioSchedule(AttMaskHint(), start=0.0, end=0.5, epochs=5))])
    nested.check_grid(196)  # that nothing is shown in the first epoch is what the schedule asks for
    with pytest.raises(UsageError, match='leaves none of 9 patches visible'):
        nested.check_grid(9)
    assert RatioSchedule(AttMaskLow(), (0.0, 0.1), (0.1, 0.5), 2).ratio_at(1) == pytest.approx((0.05, 0.3))


def test_masker_that_needs_scores_says_so():
    assert AttentionGuidedMasker.needs_scores
    assert not RandomMasker.needs_scores
    with pytest.raises(UsageError, match='needs scores of a guide'):
        AttentionGuidedMasker()(tokens()._replace(scores=None))


def test_random_masker_counts():
    seen = tokens(batch=300)
    by_share = at(RandomMasker(ratio=0.3), 0)(seen).flatten(1)
    assert (by_share.sum(1) == 58).all()  # floor(0.3 * 196)
    assert abs(by_share.float().mean(0) - 58 / 196).max() < 0.15, 'every patch can be hidden'
    by_chance = at(RandomMasker(prob=0.15), 0)(seen).flatten(1).float()
    assert abs(by_chance.mean() - 0.15) < 4 * (0.15 * 0.85 / by_chance.numel()) ** 0.5
    assert by_chance.sum(1).std() > 1
    assert RandomMasker().prob == 0.15
    for empty in (RandomMasker(ratio=0.0), RandomMasker(prob=0.0)):
        assert not at(empty, 0)(seen).any()
    for full in (RandomMasker(ratio=1.0), RandomMasker(prob=1.0)):
        assert at(full, 0)(seen).all()


def test_lowest_marks_exactly_count():
    importance = torch.rand(5, 20)
    for count in (0, 1, 7, 20):
        marked = lowest(importance, count)
        assert (marked.sum(1) == count).all()
        if 0 < count < 20:
            assert (importance.masked_fill(~marked, -1).amax(1) <= importance.masked_fill(marked, 2).amin(1)).all()


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: AttentionGuidedMasker(num=0), 'num is 0'),
        (lambda: AttentionGuidedMasker(num=-3), 'num is -3'),
        (lambda: AttentionGuidedMasker(num=2.5), r'num is 2\.5'),
        (lambda: AttentionGuidedMasker(prob=1.5), r'prob is 1\.5: give a number in \[0, 1\]'),
        (lambda: RandomMasker(prob=-0.1), r'prob is -0\.1'),
        (lambda: RandomMasker(ratio=2), 'ratio is 2: give a number in'),
        (lambda: RandomMasker(ratio='half'), "ratio is 'half'"),
        (lambda: RandomMasker(prob=0.1, ratio=0.1), 'not both'),
        (lambda: AttentionGuidedMasker(num=50).check_grid(49), 'at most 49'),
        (lambda: AttMaskHigh(ratio=1.2), r'ratio is 1\.2'),
        (lambda: AttMaskLow(ratio=(0.5, 0.1)), r'ratio is \(0\.5, 0\.1\): give the smaller number first'),
        (lambda: RandomMasker(ratio=(0.5, 0.1)), 'the smaller number first'),
        (lambda: BlockMasker(ratio=(0.1, 0.2, 0.3)), 'ratio is .* two numbers'),
        (lambda: AttMaskHigh(image_prob=-1), 'image_prob'),
        (lambda: AttMaskHigh(layer=0), 'from the end'),
        (lambda: AttMaskHint(show_max=1.1), 'show_max'),
        (lambda: AttMaskHint(show_max=0.1).check_grid(9), 'at least 0.22'),
        (lambda: BlockMasker(aspect=(2.0, 1.0)), 'aspect'),
        (lambda: BlockMasker(min_block=0), 'min_block'),
        (lambda: MaskerSchedule([(1, None)]), 'start at epoch 0'),
        (lambda: MaskerSchedule([(0, None), (5, None), (5, None)]), 'start at epoch 0'),
        (lambda: build('MaskerSchedule', phases=[dict(type='AttMaskHigh')]), 'phases is .* each a list of 2'),
        (lambda: MaskerSchedule([(0, dict(type='DINOHead'))]), 'not a masker'),
        (lambda: RatioSchedule(dict(type='AttentionGuidedMasker'), 0.1, 0.2, 3), 'needs a masker with a ratio'),
        (lambda: RatioSchedule(dict(type='AttMaskHigh'), 0.1, 0.2, 0), 'epochs'),
    ],
)
def test_mistakes_are_told(make, message):
    with pytest.raises(UsageError, match=message):
        make()


@pytest.mark.parametrize(
    'masker',
    [
        dict(type='AttMaskHint', ratio=(0.1, 0.5), image_prob=0.5),
        dict(type='AttentionGuidedMasker', num=8, prob=0.4),
        dict(type='MultiBlockMasker'),
        dict(type='RatioSchedule', masker=dict(type='BlockMasker'), start=0.2, end=0.6, epochs=4),
    ],
)
def test_a_shuffled_masker_hides_as_many_anywhere(masker):
    """Mean and deviation of the counts are the masker's own, and no patch is hidden more often than others."""
    seen = tokens(batch=3000, grid=(8, 8))
    other = MODELS.build(dict(masker))
    shuffled = build('ShuffledMasker', masker=masker)
    assert not shuffled.needs_scores and shuffled.equal_counts is other.equal_counts
    blind = seen._replace(scores=None, tokens=None)
    counts, places = [], torch.zeros(64)
    for iteration in range(4):
        first, second = at(other, iteration)(seen).flatten(1), at(shuffled, iteration)(blind).flatten(1)
        counts.append((first.sum(1), second.sum(1)))
        places += second.sum(0)
    ours, theirs = (torch.cat(part).double() for part in zip(*counts, strict=True))
    if masker['type'] != 'AttMaskHint':  # which draws one ratio for a whole batch
        standard = (ours.var() / len(ours) + theirs.var() / len(theirs)).sqrt()
        assert abs(float(ours.mean() - theirs.mean())) <= 4 * float(standard) + 1e-9
        assert float(ours.std()) == pytest.approx(float(theirs.std()), rel=0.06, abs=1e-9)
    share = float(places.sum()) / (64 * 12_000)
    spread = 6 * (share * (1 - share) / 12_000) ** 0.5
    assert float((places / 12_000 - share).abs().max()) < spread


def test_a_shuffled_masker_moves_what_is_thrown_along():
    drawn = at(build('ShuffledMasker', masker=dict(type='ThrowingMasker')), 0).draw(tokens(batch=50))
    assert drawn.thrown is not None and not (drawn.hidden & drawn.thrown).any()
    assert drawn.hidden.flatten(1).sum(1).unique().tolist() == [int(0.45 * 196)]
    assert drawn.thrown.flatten(1).sum(1).unique().tolist() == [int(0.85 * 196) - int(0.45 * 196)]


@pytest.mark.parametrize('masker', [None, dict(type='PartMasker')])
def test_nothing_and_masks_by_tokens_cannot_be_shuffled(masker):
    with pytest.raises(UsageError, match='ShuffledMasker'):
        build('ShuffledMasker', masker=masker)
