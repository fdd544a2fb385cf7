"""Masks of which a share is taken by score: exact counts, the ones of a plain loop, the rest drawn evenly."""

from __future__ import annotations

import pytest
import torch

from mstkit.errors import UsageError
from mstkit.models import AttMaskHigh, Masker, RandomMasker, RatioSchedule, TopShareMasker
from mstkit.structures import MaskContext, Progress


def context(scores: torch.Tensor) -> MaskContext:
    """Scores (B, L) of one head, a grid of one row."""
    return MaskContext(torch.zeros(len(scores), 3, 1, 1), (1, scores.shape[1]), scores=scores[:, None])


def at(masker: Masker, epoch: int, epochs: int = 10, steps: int = 5) -> Masker:
    """At the first step of an epoch."""
    masker.set_progress(Progress(epoch * steps, epochs * steps, steps, 1, epoch * steps))
    return masker


def some_scores(images: int = 64, length: int = 196) -> torch.Tensor:
    return torch.rand(images, length, generator=torch.Generator().manual_seed(0)) - 0.5  # of either sign


@pytest.mark.parametrize('direction', ['most', 'least'])
@pytest.mark.parametrize(('epoch', 'epochs'), [(0, 200), (1, 200), (99, 200), (199, 200), (6, 7), (2, 3)])
def test_the_taken_are_those_of_a_plain_loop_and_the_others_any(direction, epoch, epochs):
    scores = some_scores()
    hidden = at(TopShareMasker(direction=direction), epoch, epochs)(context(scores)).flatten(1)
    taken = int(147 * (0.5 * ((epoch + 1) / epochs)))  # of HPM's code
    others = 0
    for row, mask in zip(scores.tolist(), hidden.tolist(), strict=True):
        assert sum(mask) == 147
        order = sorted(range(196), key=row.__getitem__, reverse=direction == 'most')
        assert all(mask[place] for place in order[:taken])
        others += sum(mask[place] for place in order[taken : taken + 20])
    chance = (147 - taken) / (196 - taken)
    assert others / (64 * 20) == pytest.approx(chance, abs=4 * (chance * (1 - chance) / (64 * 20)) ** 0.5)


def test_the_rest_is_drawn_evenly():
    scores = torch.arange(12.0).expand(20_000, -1)
    hidden = at(TopShareMasker(ratio=0.5, start=0.5, end=0.5), 0)(context(scores)).flatten(1).float()
    assert (hidden[:, 9:] == 1).all()
    assert hidden[:, :9].mean(0).sub(3 / 9).abs().max() < 0.02
    pairs = hidden[:, :9].T @ hidden[:, :9] / len(hidden)
    assert pairs[~torch.eye(9, dtype=torch.bool)].sub(3 / 9 * 2 / 8).abs().max() < 0.02


def test_nothing_taken_is_random_and_all_taken_is_attmask():
    seen = context(some_scores())
    for epoch in (0, 9):
        hidden = at(TopShareMasker(start=0.0, end=0.0), epoch)(seen)
        assert torch.equal(hidden, at(RandomMasker(ratio=0.75), epoch)(seen)), 'the same draws'
        whole = at(TopShareMasker(start=1.0, end=1.0), epoch)(seen)
        assert torch.equal(whole, at(AttMaskHigh(ratio=0.75, image_prob=1.0), epoch)(seen))


def test_the_share_grows_by_the_epoch_or_falls():
    shares = [at(TopShareMasker(), epoch).share for epoch in range(10)]
    assert shares == pytest.approx([0.05 * (epoch + 1) for epoch in range(10)])
    falling = [at(TopShareMasker(start=0.5, end=0.0), epoch).share for epoch in (0, 4, 9)]
    assert falling == pytest.approx([0.45, 0.25, 0.0])
    masker = TopShareMasker()
    masker.set_progress(Progress(step=4, total_steps=12, steps_per_epoch=5))  # inside the first of 2.4 epochs
    assert masker.share == pytest.approx(0.5 / 3)
    masker.set_progress(Progress(step=20, total_steps=12, steps_per_epoch=5))
    assert masker.share == 0.5


def test_counts_of_a_range_and_of_a_schedule_are_exact():
    scores = some_scores(300)
    hidden = at(TopShareMasker(ratio=(0.1, 0.9), start=0.5, end=0.5), 3)(context(scores)).flatten(1)
    counts = hidden.sum(1)
    assert len(counts.unique()) > 50
    order = scores.argsort(dim=1, descending=True)
    for row, places, count in zip(hidden, order, counts.tolist(), strict=True):
        assert row[places[: int(count * 0.5)]].all()
    scheduled = RatioSchedule(TopShareMasker(), start=0.5, end=0.8, epochs=9)
    assert scheduled.equal_counts and not TopShareMasker(ratio=(0.1, 0.9)).equal_counts
    for epoch, count in ((0, 98), (3, int(0.6 * 196)), (9, int(0.8 * 196))):
        assert (at(scheduled, epoch)(context(scores)).flatten(1).sum(1) == count).all()
        assert scheduled.masker.share == pytest.approx(0.05 * (epoch + 1))


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(direction='hard'), "TopShareMasker.direction is 'hard': give 'most' or 'least'"),
        (dict(start=-0.1), r'TopShareMasker.start is -0\.1'),
        (dict(end=1.5), r'TopShareMasker.end is 1\.5'),
        (dict(ratio=1.2), r'TopShareMasker.ratio is 1\.2'),
        (dict(layer=0), 'from the end'),
        (dict(exclude_cls_key='no'), "exclude_cls_key is 'no': give True or False"),
    ],
)
def test_mistakes_are_told(settings, message):
    with pytest.raises(UsageError, match=message):
        TopShareMasker(**settings)
