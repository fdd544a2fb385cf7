"""KoLeo against its formula by plain loops and lightly's, and every regularizer in every method."""

from __future__ import annotations

import inspect
import math
from typing import Any

import pytest
import torch
from lightly.loss import KoLeoLoss
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.models import Pretrainer
from mstkit.models.objectives import Regularizer, Surroundings
from mstkit.models.part_checks import default_score
from mstkit.registry import MODELS
from mstkit.structures import Progress
from tests.models import test_methods
from tests.models.builders import NECK, VIT, gradient_of, total, views
from tests.models.moby import moby

NAMES = sorted(
    name for name, cls in MODELS.module_dict.items() if inspect.isclass(cls) and issubclass(cls, Regularizer)
)
METHODS = [*test_methods.METHODS, 'MoBY']


def regularizer(kind: str, **settings: Any) -> Any:
    return MODELS.build(dict(type=kind, surroundings=surroundings(), **settings))


def random_features(views: int = 2, batch: int = 5, channels: int = 7, seed: int = 0) -> Tensor:
    return torch.randn(views, batch, channels, generator=torch.Generator().manual_seed(seed))


def plain_koleo(features: Tensor) -> float:
    loss = 0.0
    for view in features.double().tolist():
        ones = [[value / math.hypot(*row) for value in row] for row in view]
        nearest = [min(math.dist(one, other) for other in ones if other is not one) for one in ones]
        loss -= sum(map(math.log, nearest)) / len(ones)
    return loss


def test_koleo_is_its_formula():
    for batch, channels in ((5, 7), (2, 3), (40, 2)):
        features = random_features(2, batch, channels)
        koleo = regularizer('KoLeo')
        assert koleo.penalty(features).item() == pytest.approx(plain_koleo(features), rel=1e-5)
        assert koleo.penalty(features).item() == pytest.approx(sum(map(KoLeoLoss(), features)).item(), rel=1e-5)
        assert koleo.penalty(3 * features).item() == pytest.approx(plain_koleo(features), rel=1e-5)
    assert koleo.weight == 0.1


def test_koleo_does_not_compare_views():
    features = random_features(1, 6)
    pairs = torch.cat((features, features))  # each feature is in both views
    koleo = regularizer('KoLeo')
    assert koleo.penalty(pairs).item() == pytest.approx(2 * koleo.penalty(features).item(), rel=1e-6)


def test_koleo_spreads_a_cluster():
    torch.manual_seed(0)
    features = torch.nn.Parameter(torch.ones(1, 8, 3) + 0.01 * torch.randn(1, 8, 3))
    optimizer, koleo = torch.optim.SGD([features], lr=0.02), regularizer('KoLeo')
    distances = []
    for _ in range(200):
        optimizer.zero_grad()
        koleo.penalty(features).backward()
        distances.append(koleo.statistics['nearest_distance'].item())
        optimizer.step()
    assert distances[0] < 0.01 and distances[-1] > 0.4  # eight points on a sphere: at most 1.2156 apart


def test_koleo_of_equal_features():
    for features in (random_features()[:, [0, 0, 1, 2]], torch.ones(2, 4, 3), torch.zeros(2, 4, 3)):
        leaf = features.clone().requires_grad_()
        loss = regularizer('KoLeo').penalty(leaf)
        loss.backward()
        assert torch.isfinite(loss) and torch.isfinite(gradient_of(leaf)).all()
    (leaf := random_features()[:, [0, 0]].requires_grad_()).retain_grad()
    regularizer('KoLeo').penalty(leaf).backward()
    assert gradient_of(leaf).abs().max() == 0


def test_koleo_asks_for_two_images():
    koleo = regularizer('KoLeo')
    koleo.check_batch(2)
    with pytest.raises(UsageError, match=r'train_dataloader\.batch_size=2'):
        koleo.check_batch(1)
    assert koleo.penalty(random_features(batch=1)).item() == 0


def share_of_koleo(rank: int, world: int) -> float:
    return regularizer('KoLeo').penalty(random_features(batch=8)[:, rank::world]).item()


def test_koleo_gathers_nothing(run_two):
    assert run_two(share_of_koleo, 2) == [share_of_koleo(0, 2), share_of_koleo(1, 2)]


def build(method: str, **parts: Any) -> Pretrainer:
    if method == 'MoBY':
        return moby(**parts)
    torch.manual_seed(7)
    return test_methods.build('RandomMasker', method, 'vit', **parts)


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('method', METHODS)
def test_a_regularizer_in_a_method(method, name):
    """Its loss is the formula of the student's pooled features; the other losses do not change."""
    own = test_methods.METHODS.get(method, {}).get('objectives', {})
    found = []
    for parts in ({}, dict(objectives={**own, 'spread': dict(type=name)})):
        model = build(method, **parts)
        local = any(one.reads_local for one in model.objectives.values())
        model.set_progress(Progress(3, 10, 5, rank_seed=1, iteration=3))
        torch.manual_seed(3)
        large = model.global_views + (model.target_needs is not None)
        losses = model.loss(views(batch=3, local=1) if local else views(batch=3)[:large])
        total(losses).backward()
        found.append({key: value.item() for key, value in losses.items()})
    spread = found[1].pop('loss_spread')
    assert found[0] == found[1]
    assert math.isfinite(spread) and spread != 0
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize('name', NAMES)
def test_a_regularizer_is_computed_in_float32(name):
    config = dict(type='Pretrainer', backbone=VIT, objectives=dict(own=dict(type=name)))
    model = MODELS.build(config).train()
    model.init_weights()
    seen: list[Tensor] = []
    objective = model.objectives['own']
    compute = objective.penalty

    def penalty(features: Tensor) -> Tensor:
        seen.append(features)
        return compute(features)

    objective.penalty = penalty
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = model.loss(views(batch=3, local=0))['loss_own']
    assert loss.dtype == seen[0].dtype == torch.float32 and seen[0].shape == (2, 3, 48)
    with torch.no_grad():
        assert loss.item() == pytest.approx(objective.weight * compute(seen[0]).item(), rel=1e-6)


@pytest.mark.parametrize('name', NAMES)
def test_a_regularizer_does_not_decide_by_what_patches_are_ranked(name):
    class_token = MODELS.build(
        dict(type='CrossView', neck=NECK, head=dict(type='DINOHead'), surroundings=surroundings())
    )
    own = regularizer(name)
    assert default_score({'own': own}) == 'received'
    assert default_score({'own': own, 'ce': class_token}) == 'class_token'


def surroundings() -> Surroundings:
    return Surroundings(MODELS.build(VIT), None, {}, 'a test')
