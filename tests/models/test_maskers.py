"""Every registered masker keeps the contract; each keeps its own promise."""

from __future__ import annotations

import pytest
import torch

from mstkit.errors import UsageError
from mstkit.models import AttentionGuidedMasker, Masker, RandomMasker
from mstkit.models.maskers.functional import importance_of, lowest
from mstkit.registry import MODELS
from mstkit.structures import Progress, TokenOutput

MASKERS = sorted(name for name, cls in MODELS.module_dict.items() if isinstance(cls, type) and issubclass(cls, Masker))


def tokens(batch: int = 4, grid: tuple[int, int] = (14, 14), heads: int = 3, seed: int = 0) -> TokenOutput:
    generator = torch.Generator().manual_seed(seed)
    length = grid[0] * grid[1]
    attention = torch.rand(batch, heads, length, generator=generator).softmax(dim=-1)
    return TokenOutput(torch.zeros(batch, length, 8), torch.zeros(batch, 8), grid, attention)


def at(masker: Masker, iteration: int, rank_seed: int = 1) -> Masker:
    masker.set_progress(Progress(iteration, 100, 10, rank_seed, iteration))
    return masker


def test_all_maskers_of_this_project_are_registered():
    assert {'AttentionGuidedMasker', 'RandomMasker'} <= set(MASKERS)


@pytest.mark.parametrize('name', MASKERS)
@pytest.mark.parametrize('grid', [(14, 14), (7, 7), (3, 5), (1, 1)])
def test_contract(name, grid):
    masker = MODELS.build(dict(type=name))
    seen = tokens(grid=grid)
    mask = at(masker, 0)(seen)
    assert mask.dtype == torch.bool
    assert mask.shape == (4, *grid)
    assert torch.equal(mask, at(masker, 0)(seen)), 'the same iteration repeats itself'
    assert torch.equal(mask, at(MODELS.build(dict(type=name)), 0)(seen)), 'a resumed run repeats it'


@pytest.mark.parametrize('name', MASKERS)
def test_iterations_and_ranks_differ(name):
    masker = MODELS.build(dict(type=name))
    seen = tokens(batch=64)
    base = at(masker, 0)(seen)
    assert not torch.equal(base, at(masker, 1)(seen))
    assert not torch.equal(base, at(masker, 0, rank_seed=2)(seen))


@pytest.mark.parametrize('name', MASKERS)
def test_global_randomness_is_neither_used_nor_touched(name):
    masker = MODELS.build(dict(type=name))
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
    order = seen.attention.mean(1).argsort(dim=-1)
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
    flat = tokens()._replace(attention=torch.full((4, 3, 196), 1 / 196))
    assert (at(AttentionGuidedMasker(num=8, prob=1.0), 0)(flat).flatten(1).sum(1) == 24).all()


def test_excluding_the_class_key_can_change_the_ranking():
    """Two heads, of which one gives most of its attention to the class token."""
    with_cls = torch.tensor([[0.05, 0.03, 0.92], [0.40, 0.55, 0.05]])  # last column: the class token
    attention = with_cls[:, :2].unsqueeze(0)
    sliced = importance_of(attention)
    renormalised = importance_of(attention, exclude_cls_key=True)
    torch.testing.assert_close(sliced, torch.tensor([[0.225, 0.29]]))
    expected = (with_cls[:, :2] / with_cls[:, :2].sum(1, keepdim=True)).mean(0, keepdim=True)
    torch.testing.assert_close(renormalised, expected)
    assert sliced.argmin() == 0
    assert renormalised.argmin() == 1


def test_masker_that_needs_attention_says_so():
    assert AttentionGuidedMasker.needs_attention
    assert not RandomMasker.needs_attention
    with pytest.raises(UsageError, match='needs attention'):
        AttentionGuidedMasker()(tokens()._replace(attention=None))


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
        (lambda: AttentionGuidedMasker(num=0), 'not 0'),
        (lambda: AttentionGuidedMasker(num=-3), 'not -3'),
        (lambda: AttentionGuidedMasker(num=2.5), r'not 2\.5'),
        (lambda: AttentionGuidedMasker(prob=1.5), r'0 to 1, not 1\.5'),
        (lambda: RandomMasker(prob=-0.1), r'not -0\.1'),
        (lambda: RandomMasker(ratio=2), 'not 2'),
        (lambda: RandomMasker(ratio='half'), "not 'half'"),
        (lambda: RandomMasker(prob=0.1, ratio=0.1), 'not both'),
        (lambda: AttentionGuidedMasker(num=50).check_grid(49), 'at most 49'),
    ],
)
def test_mistakes_are_told(make, message):
    with pytest.raises(UsageError, match=message):
        make()
