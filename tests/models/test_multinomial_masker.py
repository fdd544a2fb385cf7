"""Patches drawn without replacement in proportion to attention are distributed as one draw after another is."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from mstkit.errors import UsageError
from mstkit.models import AttMaskHigh, Masker, MultinomialMasker, RandomMasker
from mstkit.models.maskers.functional import weighted_places
from mstkit.structures import MaskContext, Progress

WEIGHTS = [0.5, 0.3, 0.15, 0.05]


def context(scores: torch.Tensor, batch: int) -> MaskContext:
    """The same attention of one head for all images: a grid of one row."""
    return MaskContext(torch.zeros(batch, 3, 1, 1), (1, len(scores)), scores=scores.expand(batch, 1, -1))


def at(masker: Masker, iteration: int) -> Masker:
    masker.set_progress(Progress(iteration, 100, 10, 1, iteration))
    return masker


def one_after_another(weights: list[float], count: int) -> dict[frozenset[int], float]:
    """The probability of each set of so many draws without replacement, over all orders in which it can be drawn."""
    found: dict[frozenset[int], float] = {}
    for order in itertools.permutations(range(len(weights)), count):
        probability, left = 1.0, sum(weights)
        for index in order:
            probability *= weights[index] / left
            left -= weights[index]
        found[frozenset(order)] = found.get(frozenset(order), 0.0) + probability
    return found


def frequencies(masker: MultinomialMasker, images: int = 40_000) -> dict[frozenset[int], float]:
    hidden = at(masker, 0)(context(torch.tensor(WEIGHTS), images)).flatten(1)
    found: dict[frozenset[int], float] = {}
    for row in hidden.tolist():
        members = frozenset(index for index, one in enumerate(row) if one)
        found[members] = found.get(members, 0.0) + 1 / images
    return found


@pytest.mark.parametrize('direction', ['most', 'least'])
@pytest.mark.parametrize('drawn', ['hidden', 'visible'])
@pytest.mark.parametrize('count', [1, 2, 3])
def test_sets_are_as_likely_as_in_a_plain_loop(direction, drawn, count):
    attended_first = (direction == 'most') == (drawn == 'hidden')
    weights = [one if attended_first else 1 / one for one in WEIGHTS]
    drawn_sets = one_after_another(weights, count if drawn == 'hidden' else 4 - count)
    expected = drawn_sets if drawn == 'hidden' else {frozenset(range(4)) - one: p for one, p in drawn_sets.items()}
    found = frequencies(MultinomialMasker(ratio=count / 4, direction=direction, drawn=drawn))
    assert sum(expected.values()) == pytest.approx(1)
    for members, probability in expected.items():
        deviation = math.sqrt(probability * (1 - probability) / 40_000)
        assert found.get(members, 0.0) == pytest.approx(probability, abs=5 * deviation), members


def test_what_draws_leave_over_is_not_drawn_by_the_inverse():
    """So ``drawn`` is a setting: both hide what is little attended, but not as often."""
    hidden = one_after_another([1 / one for one in WEIGHTS], 1)[frozenset({3})]
    visible = one_after_another(WEIGHTS, 3)[frozenset({0, 1, 2})]
    assert (hidden, visible) == (pytest.approx(0.625), pytest.approx(0.696, abs=5e-4))


def test_as_often_as_by_torch():
    """Each patch of a large grid, beside ``torch.multinomial``, with which MILAN and AMT draw."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(196, generator=generator) ** 4 + 1e-4
    images, count = 4000, 98
    order = torch.multinomial(weights.expand(images, -1), 196, generator=generator)
    expected = torch.zeros(images, 196).scatter_(1, order[:, :count], 1).mean(0)
    seen = context(weights, images)
    found = at(MultinomialMasker(ratio=0.5), 0)(seen).flatten(1).float().mean(0)
    deviation = (2 * expected * (1 - expected) / images).sqrt()
    assert ((found - expected).abs() <= 5 * deviation + 2e-3).all()
    milan = at(MultinomialMasker(ratio=0.5, direction='least', drawn='visible'), 1)(seen).flatten(1).float().mean(0)
    assert ((1 - milan - expected).abs() <= 5 * deviation + 2e-3).all()


def test_places_are_those_of_a_plain_loop():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(5, 12, generator=generator) * 3
    found = weighted_places(logits, generator.manual_seed(4))
    uniform = torch.rand(5, 12, generator=generator.manual_seed(4)).tolist()
    for row, draws, places in zip(logits.tolist(), uniform, found.tolist(), strict=True):
        arrivals = [-math.log(draw) / math.exp(logit) for draw, logit in zip(draws, row, strict=True)]
        assert places == [sorted(arrivals).index(arrival) for arrival in arrivals]


@pytest.mark.parametrize('direction', ['most', 'least'])
@pytest.mark.parametrize('drawn', ['hidden', 'visible'])
def test_exact_counts_whatever_the_attention(direction, drawn):
    """A softmax in half precision has zeros; an untrained network's is flat."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(64, 2, 49, generator=generator)
    scores[:16] = 0
    scores[16:32] = scores[16:32].where(scores[16:32] > 0.9, 0.0)
    scores[32:48] = 1e30
    seen = MaskContext(torch.zeros(64, 3, 1, 1), (7, 7), scores=scores)
    for ratio in (0.0, 0.3, 0.75, 1.0):
        hidden = at(MultinomialMasker(ratio=ratio, direction=direction, drawn=drawn), 0)(seen).flatten(1)
        assert (hidden.sum(1) == int(ratio * 49)).all()


@pytest.mark.parametrize(('direction', 'first'), [('most', slice(0, 3)), ('least', slice(3, None))])
def test_patches_without_attention_come_last_or_first_and_any_of_them(direction, first):
    scores = torch.tensor([0.5, 0.3, 0.2] + [0.0] * 7)
    hidden = at(MultinomialMasker(ratio=0.5, direction=direction), 0)(context(scores, 2000)).flatten(1)
    rest = torch.ones(10, dtype=torch.bool)
    rest[first] = False
    if direction == 'most':
        assert hidden[:, first].all()
        assert hidden[:, rest].float().mean(0).sub(2 / 7).abs().max() < 0.05
    else:
        assert not hidden[:, rest].any()
        assert hidden[:, first].float().mean(0).sub(5 / 7).abs().max() < 0.05


def test_every_patch_can_be_hidden_and_can_stay_visible():
    """Unlike AttMask, which always hides the same of an image."""
    scores = torch.linspace(0.2, 1.8, 64) / 64
    seen = context(scores, 2000)
    high = at(AttMaskHigh(ratio=0.5, image_prob=1.0), 0)(seen).flatten(1)
    assert (high == high[0]).all()
    for direction in ('most', 'least'):
        share = at(MultinomialMasker(ratio=0.5, direction=direction), 0)(seen).flatten(1).float().mean(0)
        assert share.min() > 0.05 and share.max() < 0.95
        assert torch.corrcoef(torch.stack([share, scores]))[0, 1] > 0.9 or direction == 'least'
        assert torch.corrcoef(torch.stack([share, scores]))[0, 1] < -0.9 or direction == 'most'


def test_flat_attention_is_the_random_mask():
    seen = context(torch.full((49,), 1 / 49), 4000)
    flat = at(MultinomialMasker(ratio=0.5), 0)(seen).flatten(1).float()
    chance = at(RandomMasker(ratio=0.5), 0)(seen).flatten(1).float()
    assert (flat.sum(1) == chance.sum(1)).all()
    assert flat.mean(0).sub(24 / 49).abs().max() < 0.05
    pairs = (flat.T @ flat / 4000).fill_diagonal_(24 / 49 * 23 / 48)
    assert pairs.sub(24 / 49 * 23 / 48).abs().max() < 0.05, 'no pair of patches goes together'


def test_heads_and_the_class_key_as_in_attmask():
    """Ranked by the same importance: the mean over heads, renormalized where asked for."""
    scores = torch.tensor([[0.05, 0.03], [0.40, 0.55]]).expand(4000, -1, -1)
    seen = MaskContext(torch.zeros(4000, 3, 1, 1), (1, 2), scores=scores)
    for exclude, first in ((False, 0.225 / 0.515), (True, (0.625 + 40 / 95) / 2)):
        share = at(MultinomialMasker(ratio=0.5, exclude_cls_key=exclude), 0)(seen).flatten(1).float().mean(0)
        assert share[0].item() == pytest.approx(first, abs=0.04)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(direction='high'), "MultinomialMasker.direction is 'high': give 'most' or 'least'"),
        (dict(drawn='hiden'), "drawn is 'hiden': give 'hidden' or 'visible'. Did you mean hidden"),
        (dict(ratio=1.2), r'MultinomialMasker.ratio is 1\.2'),
        (dict(image_prob=2), 'image_prob is 2'),
        (dict(layer=0), 'from the end'),
        (dict(exclude_cls_key='no'), "exclude_cls_key is 'no': give True or False"),
    ],
)
def test_mistakes_are_told(settings, message):
    with pytest.raises(UsageError, match=message):
        MultinomialMasker(**settings)
