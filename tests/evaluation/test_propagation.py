from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from mstkit.errors import UsageError
from mstkit.evaluation.benchmarks.propagation import Propagation, follow, hard_labels, one_hot, propagate

HEIGHT, WIDTH, CHANNELS, CLASSES = 6, 9, 4, 3


def made(count: int, seed: int = 0) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(count, HEIGHT, WIDTH, CHANNELS, generator=generator)
    labels = torch.rand(count, HEIGHT, WIDTH, CLASSES, generator=generator)
    return list(functional.normalize(tokens, dim=-1)), list(labels)


def by_plain_loops(tokens: torch.Tensor, sources: list, labels: list, settings: Propagation) -> torch.Tensor:
    """One patch at a time, in Python's floats."""
    result = torch.zeros(HEIGHT, WIDTH, CLASSES)
    for y in range(HEIGHT):
        for x in range(WIDTH):
            found = []
            for source, label in zip(sources, labels, strict=True):
                for v in range(HEIGHT):
                    for u in range(WIDTH):
                        if abs(v - y) <= settings.radius and abs(u - x) <= settings.radius:
                            cosine = float(tokens[y, x].double() @ source[v, u].double())
                            found.append((math.exp(cosine / settings.temperature), label[v, u]))
            best = sorted(found, key=lambda pair: -pair[0])[: settings.neighbors]
            total = sum(weight for weight, _ in best)
            result[y, x] = sum(weight / total * label for weight, label in best)
    return result


@pytest.mark.parametrize(
    'settings',
    [Propagation(radius=2), Propagation(radius=12), Propagation(radius=0), Propagation(radius=1, neighbors=60)],
)
def test_equals_plain_loops(settings):
    (tokens, *sources), (_, *labels) = made(4)
    measured = propagate(tokens, sources, labels, settings)
    torch.testing.assert_close(measured, by_plain_loops(tokens, sources, labels, settings), rtol=1e-4, atol=1e-5)


def test_temperature_counts():
    (tokens, *sources), (_, *labels) = made(3)
    cold, warm = (propagate(tokens, sources, labels, Propagation(temperature=value)) for value in (1e-5, 10.0))
    assert not torch.allclose(cold, warm, atol=0.05)
    nearest = propagate(tokens, sources, labels, Propagation(neighbors=1))
    torch.testing.assert_close(cold, nearest, rtol=0, atol=0.05)


def test_labels_come_from_the_first_frame_and_the_last_few():
    maps, _ = made(7, seed=1)
    first = torch.rand(HEIGHT, WIDTH, CLASSES, generator=torch.Generator().manual_seed(2))
    settings = Propagation(frames=2, radius=2)
    measured = list(follow(iter(maps), first, settings))
    expected: list[torch.Tensor] = []
    for index in range(1, 7):
        used = [0, *range(max(1, index - 2), index)]
        sources = [maps[place] for place in used]
        labels = [first if place == 0 else expected[place - 1] for place in used]
        expected.append(propagate(maps[index], sources, labels, settings))
    assert len(measured) == 6
    for one, two in zip(measured, expected, strict=True):
        torch.testing.assert_close(one, two)


def test_tokens_are_normalized_and_no_frame_is_kept():
    maps, _ = made(3, seed=3)
    first = one_hot(torch.randint(CLASSES, (HEIGHT, WIDTH)), CLASSES)
    scaled = [tokens * (5 + index) for index, tokens in enumerate(maps)]
    for one, two in zip(follow(iter(maps), first), follow(iter(scaled), first), strict=True):
        torch.testing.assert_close(one, two)
    only_first = list(follow(iter(maps), first, Propagation(frames=0)))
    torch.testing.assert_close(only_first[1], propagate(maps[2], maps[:1], [first]))


def test_each_label_is_stretched_before_the_highest_wins():
    """A label that is weak everywhere still wins where it is strongest."""
    soft = torch.zeros(1, 4, 2)
    soft[0, :, 0] = torch.tensor([0.9, 0.8, 0.7, 0.6])
    soft[0, :, 1] = torch.tensor([0.0, 0.0, 0.1, 0.3])
    assert soft.argmax(dim=2).tolist() == [[0, 0, 0, 0]]
    labels = hard_labels(soft, (2, 8))
    assert labels.shape == (2, 8)
    assert labels[0, 0] == 0 and labels[0, -1] == 1


def test_enlarging_follows_the_definition():
    soft = torch.rand(3, 5, 4, generator=torch.Generator().manual_seed(4))
    maps = functional.interpolate(soft.permute(2, 0, 1)[None], (24, 40), mode='bilinear')[0]
    stretched = torch.stack([(one - one.min()) / (one.max() - one.min()) for one in maps])
    assert torch.equal(hard_labels(soft, (24, 40)), stretched.argmax(dim=0))


def test_a_label_without_contrast_does_not_break_the_others():
    soft = torch.zeros(2, 2, 3)
    soft[..., 0] = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    soft[..., 1] = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    assert hard_labels(soft, (2, 2)).tolist() == [[0, 1], [0, 1]]


@pytest.mark.parametrize('change', [dict(frames=-1), dict(radius=-1), dict(neighbors=0), dict(temperature=0.0)])
def test_settings_out_of_range(change):
    maps, labels = made(2)
    with pytest.raises(UsageError, match=str(next(iter(change.values())))):
        next(follow(iter(maps), labels[0], Propagation(**change)))
