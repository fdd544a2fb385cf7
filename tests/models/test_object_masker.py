"""The object is the cluster that a plain loop finds; it is hidden first, hints of it last, with an exact count."""

from __future__ import annotations

import pytest
import torch

from mstkit.errors import UsageError
from mstkit.models import ObjectMasker
from mstkit.models.maskers.token_clusters import token_clusters
from mstkit.structures import MaskContext, Progress


def at(masker: ObjectMasker, iteration: int) -> ObjectMasker:
    masker.set_progress(Progress(iteration, 100, 10, 1, iteration))
    return masker


def on_a_ground(batch: int, generator: torch.Generator) -> tuple[MaskContext, torch.Tensor]:
    """An object of 3x4 patches somewhere inside of an 8x8 grid: context, (B, 64) bool."""
    inside = torch.zeros(batch, 8, 8, dtype=torch.bool)
    for image in range(batch):
        top, left = (int(torch.randint(1, high, (), generator=generator)) for high in (5, 4))
        inside[image, top : top + 3, left : left + 4] = True
    inside = inside.flatten(1)
    tokens = torch.where(inside.unsqueeze(2), torch.tensor([1.0, 0, 0]), torch.tensor([0, 1.0, 0]))
    tokens = tokens + 0.05 * torch.randn(tokens.shape, generator=generator)
    scores = (1.0 * inside + 0.5 * torch.rand(inside.shape, generator=generator)).unsqueeze(1)
    return MaskContext(torch.zeros(batch, 3, 1, 1), (8, 8), tokens, scores), inside


@pytest.mark.parametrize('rule', ['border', 'score'])
@pytest.mark.parametrize('hide', ['object', 'background'])
def test_the_object_is_hidden_but_for_hints(rule, hide):
    seen, inside = on_a_ground(100, torch.Generator().manual_seed(0))
    masker = ObjectMasker(ratio=0.25, hint=0.25, rule=rule, hide=hide)
    hidden = at(masker, 0)(seen).flatten(1)
    assert (hidden.sum(1) == 16).all()
    if hide == 'object':
        assert ((hidden & inside).sum(1) == 9).all(), 'of 12 patches 3 are hints; the rest is of the background'
    else:
        assert not (hidden & inside).any()
    again = at(masker, 1)(seen).flatten(1)
    assert not torch.equal(hidden & inside, again & inside) or hide == 'background', 'hints are drawn anew'
    most = at(ObjectMasker(ratio=60 / 64, hint=0.25, rule=rule), 0)(seen).flatten(1)
    assert (most.sum(1) == 60).all()
    # 61 patches are no hints, so that one of those is visible besides the hints: where the object is hidden first, of
    # the background.
    assert ((~most & inside).sum(1) == 3).all()


def plain_object(clusters: list[int], grid: tuple[int, int], scores: list[float] | None) -> list[bool]:
    """One image, patch by patch."""
    members = [[place for place, which in enumerate(clusters) if which == one] for one in (0, 1)]

    def rank(one: int) -> tuple[float, ...]:
        if scores is not None:
            return (-sum(scores[place] for place in members[one]) / max(len(members[one]), 1), one)
        rows = [divmod(place, grid[1]) for place in members[one]]
        border = [row in (0, grid[0] - 1) or column in (0, grid[1] - 1) for row, column in rows]
        # Without patches no share lies anywhere: then the sizes decide.
        share = sum(border) / len(border) if members[0] and members[1] else 0.0
        return (share, len(members[one]), one)

    found = min((0, 1), key=rank)
    return [which == found for which in clusters]


@pytest.mark.parametrize('rule', ['border', 'score'])
@pytest.mark.parametrize('grid', [(4, 5), (1, 6), (2, 2), (1, 1)])
def test_objects_are_those_of_a_plain_loop(rule, grid):
    generator = torch.Generator().manual_seed(0)
    length = grid[0] * grid[1]
    tokens = torch.randn(60, length, 3, generator=generator)
    tokens[:5] = 1.0
    scores = torch.rand(60, 2, length, generator=generator)
    seen = MaskContext(torch.zeros(60, 3, 1, 1), grid, tokens, scores)
    found = ObjectMasker(rule=rule).objects(seen, generator.manual_seed(1))
    clusters = token_clusters(tokens, 2, 5, generator.manual_seed(1))
    for image in range(60):
        importance = scores[image].mean(0).tolist() if rule == 'score' else None
        assert found[image].tolist() == plain_object(clusters[image].tolist(), grid, importance)


def test_hidden_in_turn_as_in_a_plain_loop():
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(40, 20, 3, generator=generator)
    seen = MaskContext(torch.zeros(40, 3, 1, 1), (4, 5), tokens)
    masker = ObjectMasker(hint=0.3)
    for count in (0, 1, 7, 12, 19, 20):
        counts = torch.full((40, 1), count)
        hidden = masker.choose(seen, counts, generator.manual_seed(1))
        objects = masker.objects(seen, generator.manual_seed(1))
        draws = torch.rand(40, 20, generator=generator).tolist()  # the generator stands where the places are drawn
        for image in range(40):
            order = sorted(range(20), key=draws[image].__getitem__)
            of_object = [place for place in order if objects[image, place]]
            hints = of_object[: int(0.3 * len(of_object))]
            rest = [place for place in order if not objects[image, place]]
            expected = [*of_object[len(hints) :], *rest, *hints][:count]
            assert hidden[image].nonzero().flatten().tolist() == sorted(expected)


def test_scores_are_asked_for_where_they_decide():
    assert ObjectMasker.needs_tokens and not ObjectMasker().needs_scores and ObjectMasker(rule='score').needs_scores
    assert ObjectMasker().equal_counts and not ObjectMasker(ratio=(0.1, 0.5)).equal_counts


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(hint=1.5), r'ObjectMasker.hint is 1\.5'),
        (dict(rule='center'), "ObjectMasker.rule is 'center': give 'border' or 'score'"),
        (dict(hide='objects'), "hide is 'objects'.* Did you mean object"),
        (dict(iterations=0), 'ObjectMasker.iterations is 0'),
        (dict(layer=1), 'from the end'),
        (dict(ratio=1.2), r'ObjectMasker.ratio is 1\.2'),
    ],
)
def test_mistakes_are_told(settings, message):
    with pytest.raises(UsageError, match=message):
        ObjectMasker(**settings)
    assert repr(ObjectMasker()) == "ObjectMasker(ratio=0.75, hint=0.1, rule='border', hide='object')"
