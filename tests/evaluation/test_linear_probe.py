from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.evaluation.protocols import linear_probe
from mstkit.evaluation.protocols.linear_probe import check_rates, regrouped, shuffled_batches, train_heads
from mstkit.structures import FeatureBank

RATES = (0.003, 0.3, 0.05)


def bank(count: int, classes: int, seed: int, size: int = 10, spread: float = 1.5) -> FeatureBank:
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(classes, size, generator=torch.Generator().manual_seed(77))
    labels = torch.arange(count) % classes
    features = centers[labels] + spread * torch.randn(count, size, generator=generator)
    return FeatureBank(features, labels, tuple(f'c{index}' for index in range(classes)))


def by_torch(batches, val: FeatureBank, rate: float, epochs: int, seed: int, momentum: float = 0.9):
    """One nn.Linear with torch's own SGD, schedule, loss and autograd: weights, losses and top-k after each epoch."""
    size, classes = val.features.shape[1], len(val.classes)
    layer = nn.Linear(size, classes)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(classes, size, generator=torch.Generator().manual_seed(seed)) * 0.01)
        layer.bias.zero_()
    optimizer = torch.optim.SGD(layer.parameters(), lr=rate, momentum=momentum, weight_decay=0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs, eta_min=0)
    states, losses, hits = [], [], []
    for epoch in range(epochs):
        total, seen = 0.0, 0
        for features, labels in batches(epoch):
            loss = nn.functional.cross_entropy(layer(features), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total, seen = total + loss.item() * len(labels), seen + len(labels)
        schedule.step()
        states.append(copy.deepcopy(layer.state_dict()))
        losses.append(total / seen)
        with torch.no_grad():
            ranks = layer(val.features).argsort(dim=1, descending=True)
        places = (ranks == val.labels[:, None]).int().argmax(dim=1)
        hits.append([100 * float((places < k).double().mean()) for k in (1, 5)])
    return states, losses, hits


@pytest.mark.parametrize(('classes', 'batch_size'), [(3, 32), (8, 25)])
def test_every_head_equals_a_plain_loop(classes: int, batch_size: int) -> None:
    train, val = bank(110, classes, seed=1), bank(60, classes, seed=2)
    batches = shuffled_batches(train, val, batch_size, seed=4)
    result = train_heads(batches, val, RATES, epochs=7, seed=3)
    for index, rate in enumerate(RATES):
        states, losses, hits = by_torch(batches, val, rate, 7, seed=3)
        assert result.loss[:, index].tolist() == pytest.approx(losses, abs=1e-5)
        assert result.top1[:, index].tolist() == pytest.approx([top1 for top1, _ in hits])
        if classes > 5:
            assert result.top5 is not None
            assert result.top5[:, index].tolist() == pytest.approx([top5 for _, top5 in hits])
        best = states[result.best_epochs[index]]
        torch.testing.assert_close(result.weight[index], best['weight'], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(result.bias[index], best['bias'], atol=1e-5, rtol=1e-5)
    assert (result.top5 is None) == (classes <= 5)
    assert len({tuple(curve) for curve in result.loss.T.tolist()}) == 3
    assert 100 / classes < result.top1.max() < 100


def test_the_best_head_is_of_the_best_epoch_and_not_of_the_last() -> None:
    train, val = bank(40, 4, seed=5, spread=3.0), bank(80, 4, seed=6, spread=3.0)
    result = train_heads(shuffled_batches(train, val, 8), val, RATES, epochs=12)
    for index, epoch in enumerate(result.best_epochs):
        accuracy = (val.features @ result.weight[index].T + result.bias[index]).argmax(1) == val.labels
        assert 100 * float(accuracy.double().mean()) == pytest.approx(float(result.top1[epoch, index]))
        assert result.top1[epoch, index] == result.top1[:, index].max()
        assert (result.top1[:epoch, index] < result.top1[epoch, index]).all()
    assert any(result.top1[-1, index] < result.top1[:, index].max() for index in range(3))
    assert result.top1[:, result.best_rate].max() == result.top1.max()


def test_a_rate_that_diverges_changes_no_other_one_and_is_never_the_best() -> None:
    train, val = bank(90, 4, seed=1), bank(40, 4, seed=2)
    batches = shuffled_batches(train, val, 30)
    healthy = train_heads(batches, val, (0.3, 0.1, 0.01), epochs=5)
    sick = train_heads(batches, val, (0.3, 2e38, 0.01), epochs=5)
    assert healthy.diverged == (False, False, False)
    assert sick.diverged == (False, True, False)
    assert math.isnan(sick.top1[-1, 1])
    for index in (0, 2):
        assert torch.equal(sick.weight[index], healthy.weight[index])
        assert torch.equal(sick.top1[:, index], healthy.top1[:, index])
    assert sick.best_rate != 1
    with pytest.raises(UsageError, match='every learning rate diverged'):
        train_heads(batches, val, (2e38, 3e38), epochs=3)


def test_of_two_equal_rates_the_smaller_is_best() -> None:
    train, val = bank(90, 3, seed=1, spread=0.05), bank(40, 3, seed=2, spread=0.05)
    result = train_heads(shuffled_batches(train, val, 30), val, (0.2, 0.1, 0.3), epochs=4)
    assert (result.top1.max(dim=0).values == 100).all()
    assert result.best_rate == 1


def test_a_separable_toy_is_learned_as_by_scikit_learn() -> None:
    train, val = bank(120, 5, seed=1, spread=0.2), bank(60, 5, seed=2, spread=0.2)
    model = LogisticRegression(C=1e4, max_iter=2000).fit(train.features.numpy(), train.labels.numpy())
    result = train_heads(shuffled_batches(train, val, 40), val, (0.1,), epochs=20)
    assert 100 * model.score(val.features.numpy(), val.labels.numpy()) == 100 == result.top1[-1, 0]


def test_the_loss_goes_to_the_minimum_that_scikit_learn_finds() -> None:
    train = bank(300, 3, seed=1, size=4, spread=2.5)
    model = LogisticRegression(C=1e8, tol=1e-10, max_iter=10000).fit(train.features.double(), train.labels)
    lowest = -np.log(model.predict_proba(train.features.double())[np.arange(300), train.labels]).mean()
    # Whole batches: the loss of the last epoch is that of the weights before its (tiny) step.
    result = train_heads(shuffled_batches(train, train, 300), train, (0.5, 0.2), epochs=600)
    assert lowest > 0.3
    assert result.loss[-1].tolist() == pytest.approx([lowest] * 2, abs=1e-4)
    assert (result.loss[-1] > lowest - 1e-5).all()


def test_val_in_pieces_changes_nothing(monkeypatch) -> None:
    train, val = bank(60, 7, seed=1), bank(41, 7, seed=2)
    whole = train_heads(shuffled_batches(train, val, 20), val, RATES, epochs=3)
    monkeypatch.setattr(linear_probe, '_LOGITS', 5 * 3 * 7)
    parts = train_heads(shuffled_batches(train, val, 20), val, RATES, epochs=3)
    assert torch.equal(whole.top1, parts.top1) and torch.equal(whole.top5, parts.top5)


def test_an_epoch_has_every_image_once_in_an_order_of_its_own() -> None:
    train = bank(50, 5, seed=1)._replace(features=torch.arange(50.0)[:, None])
    orders = []
    for seed, epoch in ((0, 0), (0, 1), (1, 0)):
        parts = list(shuffled_batches(train, train, 16, seed)(epoch))
        assert [len(labels) for _, labels in parts] == [16, 16, 16, 2]
        rows = torch.cat([features[:, 0] for features, _ in parts]).long()
        assert torch.equal(torch.cat([labels for _, labels in parts]), train.labels[rows])
        assert sorted(rows.tolist()) == list(range(50))
        orders.append(rows.tolist())
    assert orders[0] != orders[1] and orders[0] != orders[2]
    again = torch.cat([features[:, 0] for features, _ in shuffled_batches(train, train, 7)(1)]).long()
    assert again.tolist() == orders[1]


@pytest.mark.parametrize('sizes', [(3, 3, 3, 1), (10,), (1,) * 10, (7, 0, 3)])
@pytest.mark.parametrize('batch_size', [1, 4, 5, 10, 99])
def test_regrouping_keeps_images_and_order(sizes: tuple[int, ...], batch_size: int) -> None:
    rows: Tensor = torch.arange(10)
    parts = list(zip(rows[:, None].float().split(list(sizes)), rows.split(list(sizes)), strict=True))
    groups = list(regrouped(parts, batch_size))
    assert torch.equal(torch.cat([labels for _, labels in groups]), rows)
    assert torch.equal(torch.cat([features for features, _ in groups])[:, 0].long(), rows)
    assert [len(labels) for _, labels in groups] == [len(part) for part in rows.split(batch_size)]


@pytest.mark.parametrize('rates', [(), 0.1, '0.1', (0,), (-1.0,), (math.nan,), (math.inf,), (True,), (0.1, 0.1)])
def test_rates_that_make_no_sense(rates) -> None:
    with pytest.raises(UsageError, match='learning rate'):
        check_rates(rates)


def test_other_mistakes() -> None:
    train, val = bank(20, 4, seed=1), bank(20, 4, seed=2)
    with pytest.raises(UsageError, match='at least 1'):
        train_heads(shuffled_batches(train, val, 8), val, (0.1,), epochs=0)
    with pytest.raises(UsageError, match='no images to train on'):
        train_heads(lambda epoch: [], val, (0.1,), epochs=1)
    with pytest.raises(UsageError, match='at least 1'):
        shuffled_batches(train, val, 0)
    with pytest.raises(UsageError, match='different classes'):
        shuffled_batches(train, bank(20, 5, seed=2), 8)
    train.features[3, 2] = math.nan
    with pytest.raises(UsageError, match='1 of 20 train images have features that are not finite'):
        shuffled_batches(train, val, 8)
