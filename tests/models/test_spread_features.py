"""Coding rate and SIGReg against their formulas by plain loops, lightly's SIGReg, and over two processes."""

from __future__ import annotations

import cmath
import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from lightly.loss.lejepa_loss import SIGReg as LightlysSIGReg
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.structures import Progress
from tests.models.builders import gradient_of
from tests.models.test_regularizers import random_features, regularizer


def plain_coding_rate(features: Tensor, squared_eps: float = 0.5) -> float:
    rates = []
    for view in features.double().numpy():
        n, d = view.shape
        moments = sum(np.outer(row, row) / (row @ row) for row in view)
        rates.append(np.linalg.slogdet(np.eye(d) + d / (n * squared_eps) * moments)[1] / 2)
    return -(d + n) / (d * n) * float(np.mean(rates))


def test_coding_rate_is_its_formula():
    for batch, channels in ((5, 7), (40, 3), (1, 4)):
        features = random_features(2, batch, channels)
        rate = regularizer('CodingRate')
        assert rate.penalty(features).item() == pytest.approx(plain_coding_rate(features), rel=1e-5)
        assert rate.penalty(5 * features).item() == pytest.approx(plain_coding_rate(features), rel=1e-5)
        fine = regularizer('CodingRate', squared_eps=0.05).penalty(features).item()
        assert fine == pytest.approx(plain_coding_rate(features, 0.05), rel=1e-5)
    assert rate.weight == 1.0


def test_coding_rate_of_all_alike_and_of_all_directions():
    rate, d = regularizer('CodingRate'), 6
    rate.penalty(torch.ones(1, 9, d))
    assert rate.statistics['coding_rate'].item() == pytest.approx(math.log(1 + d / 0.5) / 2, rel=1e-5)
    rate.penalty(torch.eye(d)[None])  # the largest rate that there is
    assert rate.statistics['coding_rate'].item() == pytest.approx(d * math.log(1 + 1 / 0.5) / 2, rel=1e-5)


def plain_sigreg(features: Tensor, directions: Tensor) -> float:
    """Sums of complex numbers at 33 points from -3 to 3."""
    points = [-3 + 6 * place / 32 for place in range(33)]
    statistics = []
    for view in features.double():
        for column in (view @ directions.double()).T.tolist():
            height = [
                abs(sum(cmath.exp(1j * t * x) for x in column) / len(column) - math.exp(-t * t / 2)) ** 2
                * math.exp(-t * t / 2)
                for t in points
            ]
            area = sum((left + right) / 2 for left, right in itertools.pairwise(height)) * 6 / 32
            statistics.append(len(column) * area)
    return float(np.mean(statistics))


def test_sigreg_is_its_formula():
    sigreg = regularizer('SIGReg', directions=6)
    for scale in (0.0, 0.3, 1.0, 20.0):
        features = scale * random_features(2, 9, 4) + 0.1
        expected = plain_sigreg(features, sigreg.drawn(4))
        assert sigreg.penalty(features).item() == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert sigreg.weight == 0.05


def test_sigreg_equals_lightlys(monkeypatch):
    sigreg, features = regularizer('SIGReg'), random_features(2, 20, 8)
    reference = LightlysSIGReg()
    assert reference.num_vectors == sigreg.directions
    monkeypatch.setattr(reference, '_generate_unit_vectors', lambda *_, **__: sigreg.drawn(8))
    torch.testing.assert_close(sigreg.penalty(features), reference(features), rtol=1e-5, atol=1e-6)


def test_sigreg_of_a_gaussian_is_as_expected():
    """n E|phi_a - phi|^2 is 1 - phi^2 for n standard normal numbers, whatever n."""
    expected = math.sqrt(2 * math.pi) * math.erf(3 / math.sqrt(2)) - math.sqrt(2 * math.pi / 3) * math.erf(
        3 * math.sqrt(3 / 2)
    )
    for batch in (50, 400):  # a quarter of the directions says as much of 16 channels
        found = regularizer('SIGReg', directions=256).penalty(random_features(40, batch, 16)).item()
        assert found == pytest.approx(expected, rel=0.05)
        for spoiled in (
            2 * random_features(4, batch, 16),
            random_features(4, batch, 16) + 1,
            torch.zeros(4, batch, 16),
        ):
            assert regularizer('SIGReg').penalty(spoiled).item() > 3 * expected


def test_directions_are_of_the_iteration():
    sigreg = regularizer('SIGReg', directions=5)
    drawn = []
    for iteration, rank in ((3, 0), (3, 1), (4, 0)):
        sigreg.set_progress(Progress(1, 10, 5, rank_seed=rank, iteration=iteration))
        drawn.append(sigreg.drawn(7))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    torch.testing.assert_close(drawn[0].norm(dim=0), torch.ones(5))


@pytest.mark.parametrize('kind', ['CodingRate', 'SIGReg'])
def test_features_are_spread(kind):
    """From a cluster, by its gradient, until no direction is empty."""
    features = torch.nn.Parameter(torch.ones(1, 12, 3) + 0.01 * random_features(1, 12, 3))
    optimizer, objective = torch.optim.Adam([features], lr=0.02), regularizer(kind)
    for _ in range(300):
        optimizer.zero_grad()
        objective.penalty(features).backward()
        optimizer.step()
    spread = torch.linalg.svdvals(torch.nn.functional.normalize(features[0].detach(), dim=-1))
    assert spread[-1] > 0.5 * spread[0]


@pytest.mark.parametrize('kind', ['CodingRate', 'SIGReg'])
def test_gradients_of_equal_features_are_finite(kind):
    for features in (torch.ones(2, 4, 3), torch.zeros(2, 4, 3), 1e4 * random_features()):
        leaf = features.clone().requires_grad_()
        loss = regularizer(kind).penalty(leaf)
        loss.backward()
        assert torch.isfinite(loss) and torch.isfinite(gradient_of(leaf)).all()


def shared(rank: int, kind: str, sizes: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The loss, and its gradient in the features of this rank's images."""
    first = sum(sizes[:rank])
    leaf = random_features(2, sum(sizes))[:, first : first + sizes[rank]].clone().requires_grad_()
    loss = regularizer(kind).penalty(leaf)
    loss.backward()
    return loss.detach(), gradient_of(leaf)


@pytest.mark.parametrize('sizes', [(4, 4), (5, 2)])
@pytest.mark.parametrize('kind', ['CodingRate', 'SIGReg'])
def test_two_processes_equal_one(run_two, kind, sizes):
    """Gradients too: parallel training takes the mean over processes."""
    loss, gradient = shared(0, kind, (sum(sizes), 0))
    found = run_two(shared, kind, sizes)
    for value, _ in found:
        torch.testing.assert_close(value, loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(torch.cat([one for _, one in found], dim=1) / 2, gradient, rtol=1e-4, atol=1e-6)


MISTAKES: list[tuple[Callable[[], object], str]] = [
    (lambda: regularizer('CodingRate', squared_eps=0), r'CodingRate\.squared_eps is 0'),
    (lambda: regularizer('SIGReg', directions=0), r'SIGReg\.directions is 0'),
]


@pytest.mark.parametrize(('mistake', 'message'), MISTAKES)
def test_mistakes(mistake, message):
    with pytest.raises(UsageError, match=message):
        mistake()
