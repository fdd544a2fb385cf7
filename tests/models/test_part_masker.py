"""Parts are those of a plain k-means, hidden numbers those of exact fractions, and a run moves between the two ends."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch

from mstkit.errors import UsageError
from mstkit.models import PartMasker, RatioSchedule
from mstkit.models.maskers.part_masker import STEPS, part_counts
from mstkit.models.maskers.token_clusters import token_clusters
from mstkit.structures import MaskContext, Progress


def at(masker: PartMasker, step: int, steps: int = 100) -> PartMasker:
    masker.set_progress(Progress(step, steps, 10, 1, step))
    return masker


def in_parts(sizes: list[int], batch: int, generator: torch.Generator) -> tuple[MaskContext, torch.Tensor]:
    """Tokens in well separated directions, in another order in each image, and the part of each: (B, L)."""
    which = torch.cat([torch.full((size,), part) for part, size in enumerate(sizes)])
    order = torch.stack([torch.randperm(len(which), generator=generator) for _ in range(batch)])
    which = which[order]
    tokens = torch.eye(len(sizes))[which] * (1 + torch.rand(batch, len(order[0]), 1, generator=generator))
    tokens = tokens + 0.02 * torch.randn(tokens.shape, generator=generator)
    return MaskContext(torch.zeros(batch, 3, 1, 1), (1, len(order[0])), tokens=tokens), which


def unit(vector: list[float]) -> list[float]:
    norm = math.sqrt(sum(value * value for value in vector))
    return [value / norm for value in vector]


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def plain_clusters(tokens: list[list[float]], draws: list[list[float]], iterations: int) -> list[int]:
    """k-means of one image, patch by patch."""
    patches = [unit(one) for one in tokens]
    centers: list[list[float]] = []
    for row in draws:
        away = [min((max(1 - dot(patch, center), 0) for center in centers), default=1.0) for patch in patches]
        arrivals = [
            -math.log(draw) / distance if distance else math.inf for draw, distance in zip(row, away, strict=True)
        ]
        centers.append(patches[arrivals.index(min(arrivals))])
    for turn in range(iterations + 1):
        found = [max(range(len(centers)), key=lambda center: dot(patch, centers[center])) for patch in patches]
        if turn < iterations:
            for center in range(len(centers)):
                members = [patch for patch, which in zip(patches, found, strict=True) if which == center]
                if members:
                    centers[center] = unit([sum(values) for values in zip(*members, strict=True)])
    return found


@pytest.mark.parametrize(('count', 'iterations'), [(4, 1), (3, 5), (1, 2), (12, 3)])
def test_clusters_are_those_of_a_plain_loop(count, iterations):
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(3, 12, 5, generator=generator)
    found = token_clusters(tokens, count, iterations, generator.manual_seed(1))
    draws = torch.rand(count, 3, 12, generator=generator.manual_seed(1))
    for image in range(3):
        assert found[image].tolist() == plain_clusters(tokens[image].tolist(), draws[:, image].tolist(), iterations)
    assert torch.equal(found, token_clusters(tokens, count, iterations, generator.manual_seed(1)))
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(found, token_clusters(tokens, count, iterations, generator.manual_seed(1)))


def test_parts_that_are_there_are_found():
    generator = torch.Generator().manual_seed(0)
    seen, which = in_parts([5, 9, 20, 30], 64, generator)
    assert seen.tokens is not None
    found = token_clusters(seen.tokens, 4, 5, generator)
    same = (found.unsqueeze(1) == found.unsqueeze(2)) == (which.unsqueeze(1) == which.unsqueeze(2))
    assert same.flatten(1).all(1).float().mean() > 0.95
    alike = token_clusters(torch.ones(2, 6, 3), 4, 5, generator)
    assert (alike == 0).all(), 'fewer parts than asked for'


def plain_counts(sizes: list[int], order: list[int], count: int, inside: Fraction) -> list[int]:
    """Part by part, in fractions; largest remainders."""
    whole, budget = [0] * len(sizes), count
    for part in sorted(range(len(sizes)), key=order.__getitem__):
        whole[part] = min(sizes[part], budget)
        budget -= whole[part]
    shares = [
        inside * size * Fraction(count, sum(sizes)) + (1 - inside) * full
        for size, full in zip(sizes, whole, strict=True)
    ]
    found = [math.floor(share) for share in shares]
    last = sorted(range(len(sizes)), key=lambda part: (-(shares[part] - found[part]), order[part]))
    for part in last[: count - sum(found)]:
        found[part] += 1
    return found


def test_hidden_numbers_are_those_of_a_plain_loop_and_exact():
    generator = torch.Generator().manual_seed(0)
    for length in (1, 4, 16, 196):
        part = torch.randint(0, 7, (40, length), generator=generator)
        sizes = torch.nn.functional.one_hot(part, 7).sum(1)
        order = torch.rand(40, 7, generator=generator).argsort(1)
        counts = torch.randint(0, length + 1, (40, 1), generator=generator)
        for inside in (0, 1, 20_000, 2**15, STEPS):
            found = part_counts(sizes, order, counts, inside)
            assert torch.equal(found.sum(1, keepdim=True), counts) and (found <= sizes).all() and (found >= 0).all()
            for row in range(40):
                expected = plain_counts(
                    sizes[row].tolist(), order[row].tolist(), int(counts[row]), Fraction(inside, STEPS)
                )
                assert found[row].tolist() == expected


@pytest.mark.parametrize('inside', [1.0, 0.5, 0.0])
def test_inside_all_parts_or_whole_parts(inside):
    sizes = [8, 16, 16, 24]
    seen, which = in_parts(sizes, 200, torch.Generator().manual_seed(0))
    hidden = at(PartMasker(ratio=0.5, num_parts=4, inside=inside), 0)(seen).flatten(1)
    assert (hidden.sum(1) == 32).all()
    shares = torch.stack([(hidden & (which == part)).sum(1) / size for part, size in enumerate(sizes)], dim=1)
    partly = ((shares > 0) & (shares < 1)).sum(1)
    if inside == 1:
        assert (shares == 0.5).float().mean() > 0.97, 'but where k-means did not find the parts'
    elif inside == 0:
        assert (partly <= 1).float().mean() > 0.97
        assert ((shares == 1).float().mean(0) > 0.2).all() and ((shares == 0).float().mean(0) > 0.2).all(), 'any order'
    else:
        assert (shares >= 0.25).float().mean() > 0.97 and (shares <= 0.75).float().mean() > 0.97
    some = hidden[0] & (which[0] == 3)
    again = at(PartMasker(ratio=0.5, num_parts=4, inside=inside), 1)(seen).flatten(1)[0] & (which[0] == 3)
    assert inside == 0 or not torch.equal(some, again), 'at random inside a part'


def test_from_inside_to_whole_by_half_a_cosine_and_back():
    steps = 8
    for direction, schedule in (('to_whole', 'cosine'), ('to_whole', 'linear'), ('to_inside', 'cosine')):
        masker = PartMasker(direction=direction, schedule=schedule)
        found = [at(masker, step, steps)._inside for step in range(steps + 1)]
        falling = [(1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps + 1)]
        if schedule == 'linear':
            falling = [1 - step / steps for step in range(steps + 1)]
        assert found == pytest.approx(falling if direction == 'to_whole' else falling[::-1])
    assert {at(PartMasker(inside=0.3), step)._inside for step in (0, 50, 100)} == {0.3}
    seen, which = in_parts([16] * 4, 100, torch.Generator().manual_seed(0))
    touched = []
    for step in (0, 50, 100):
        hidden = at(PartMasker(ratio=0.5, num_parts=4), step)(seen).flatten(1)
        touched.append(sum(float((hidden & (which == part)).any(1).float().mean()) for part in range(4)))
    assert touched[0] > 3.95 and touched[2] < 2.1


def test_with_a_schedule_of_ratios():
    seen, _ = in_parts([16] * 4, 4, torch.Generator().manual_seed(0))
    masker = RatioSchedule(PartMasker(), start=0.25, end=0.75, epochs=10)
    assert masker.needs_tokens and masker.equal_counts
    masker.set_progress(Progress(100, 100, 10, 1, 100))
    assert (masker(seen).flatten(1).sum(1) == 48).all() and masker.masker._inside == 0


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(num_parts=0), 'PartMasker.num_parts is 0: give a whole number'),
        (dict(direction='outside'), "PartMasker.direction is 'outside': give 'to_whole' or 'to_inside'"),
        (dict(schedule='cosin'), "schedule is 'cosin'.* Did you mean cosine"),
        (dict(inside=1.5), r'PartMasker.inside is 1\.5'),
        (dict(iterations=0), 'PartMasker.iterations is 0'),
        (dict(ratio=1.2), r'PartMasker.ratio is 1\.2'),
    ],
)
def test_mistakes_are_told(settings, message):
    with pytest.raises(UsageError, match=message):
        PartMasker(**settings)
    assert repr(PartMasker(inside=1)) == 'PartMasker(ratio=0.75, num_parts=7, inside=1.0)'
