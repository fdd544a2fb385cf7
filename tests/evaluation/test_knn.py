from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from mstkit.errors import UsageError
from mstkit.evaluation import best_k, clip_ks, knn_accuracy
from mstkit.evaluation.protocols import weighted_knn
from mstkit.structures import FeatureBank


def bank(count: int, classes: int, seed: int, size: int = 12) -> FeatureBank:
    """Noisy clusters, so that neighbors are informative but not perfect."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(classes, size, generator=torch.Generator().manual_seed(99))
    labels = torch.randint(classes, (count,), generator=generator)
    features = centers[labels] + 1.2 * torch.randn(count, size, generator=generator)
    return FeatureBank(3 * features, labels, tuple(f'c{index}' for index in range(classes)))


def by_plain_loops(train: FeatureBank, val: FeatureBank, k: int, temperature: float, top: int) -> float:
    """The definition, one pair at a time, in Python's floats."""
    hits = 0
    for feature, label in zip(val.features.double().tolist(), val.labels.tolist(), strict=True):
        cosines = []
        for other, other_label in zip(train.features.double().tolist(), train.labels.tolist(), strict=True):
            dot = sum(a * b for a, b in zip(feature, other, strict=True))
            cosines.append((dot / math.hypot(*feature) / math.hypot(*other), other_label))
        votes: dict[int, float] = {}
        for cosine, voted in sorted(cosines, reverse=True)[:k]:
            votes[voted] = votes.get(voted, 0.0) + math.exp(cosine / temperature)
        ranked = sorted(votes, key=lambda name: -votes[name])
        hits += label in ranked[:top]
    return 100.0 * hits / len(val.labels)


@pytest.mark.parametrize(('classes', 'chunk'), [(2, 1024), (7, 1), (30, 7)])
def test_equals_plain_loops(classes: int, chunk: int) -> None:
    train, val = bank(90, classes, seed=1), bank(23, classes, seed=2)
    result = knn_accuracy(train, val, ks=(1, 3, 10, 50), temperature=0.07, chunk=chunk)
    expected = {f'k{k}_top1': by_plain_loops(train, val, k, 0.07, 1) for k in (1, 3, 10, 50)}
    if classes > 5:
        expected |= {f'k{k}_top5': by_plain_loops(train, val, k, 0.07, 5) for k in (1, 3, 10, 50)}
    assert result == pytest.approx(expected)
    assert 0 < result['k10_top1'] < 100


@pytest.mark.parametrize(('count', 'classes', 'k'), [(37, 4, 5), (250, 11, 20), (99, 1200, 10)])
def test_equals_scikit_learn(count: int, classes: int, k: int) -> None:
    train, val = bank(400, classes, seed=3), bank(count, classes, seed=4)
    model = KNeighborsClassifier(k, metric='cosine', algorithm='brute', weights=lambda d: np.exp((1 - d) / 0.07))
    model.fit(train.features.double().numpy(), train.labels.numpy())
    expected = 100 * model.score(val.features.double().numpy(), val.labels.numpy())
    assert knn_accuracy(train, val, ks=[k])[f'k{k}_top1'] == pytest.approx(expected)


def test_val_images_in_several_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    train, val = bank(300, 6, seed=5), bank(40, 6, seed=6)
    whole = knn_accuracy(train, val, ks=(20, 200))
    for chunk in (1, 7, 40, 1000):
        assert knn_accuracy(train, val, ks=(20, 200), chunk=chunk) == whole
    monkeypatch.setattr(weighted_knn, '_VOTERS', 3)
    assert knn_accuracy(train, val, ks=(20, 200)) == whole


def test_low_temperature_does_not_overflow() -> None:
    train, val = bank(60, 3, seed=7), bank(20, 3, seed=8)
    cold = knn_accuracy(train, val, ks=(50,), temperature=1e-4)['k50_top1']
    assert cold == knn_accuracy(train, val, ks=(1,))['k1_top1']


def test_top5_counts_only_classes_that_were_voted_for() -> None:
    train, val = bank(80, 9, seed=9), bank(30, 9, seed=10)
    result = knn_accuracy(train, val, ks=(1,))
    assert result['k1_top5'] == result['k1_top1']


def test_k_is_clipped_to_the_bank() -> None:
    train, val = bank(15, 3, seed=11), bank(9, 3, seed=12)
    assert set(knn_accuracy(train, val, ks=(10, 20, 100))) == {'k10_top1', 'k15_top1'}
    assert clip_ks((200, 10, 20), 20) == (10, 20)


@pytest.mark.parametrize('ks', [(0,), (-3,), (2.5,), (True,), (), 10, '10', (None,)])
def test_k_out_of_range(ks: object) -> None:
    data = bank(15, 3, seed=13)
    with pytest.raises(UsageError, match='k-NN'):
        knn_accuracy(data, data, ks=ks)


@pytest.mark.parametrize('temperature', [0.0, -1.0, float('nan')])
def test_temperature_out_of_range(temperature: float) -> None:
    data = bank(15, 3, seed=13)
    with pytest.raises(UsageError, match='temperature'):
        knn_accuracy(data, data, temperature=temperature)


def test_other_classes_are_listed() -> None:
    train, val = bank(15, 3, seed=14), bank(15, 3, seed=15)
    with pytest.raises(UsageError, match='only in train: c1; only in val: dog'):
        knn_accuracy(train, val._replace(classes=('c0', 'dog', 'c2')))
    with pytest.raises(UsageError, match='another order'):
        knn_accuracy(train, val._replace(classes=('c1', 'c0', 'c2')))


def test_broken_features_are_refused() -> None:
    train, val = bank(15, 3, seed=16), bank(15, 3, seed=17)
    train.features[4, 2] = float('nan')
    with pytest.raises(UsageError, match='1 of 15 train images'):
        knn_accuracy(train, val)
    empty = FeatureBank(torch.empty(0, 12), torch.empty(0, dtype=torch.int64), val.classes)
    with pytest.raises(UsageError, match='no images'):
        knn_accuracy(empty, val)


def test_best_k_takes_the_smaller_of_equals() -> None:
    accuracy = {'k10_top1': 40.0, 'k20_top1': 45.0, 'k100_top1': 45.0, 'k100_top5': 90.0}
    assert best_k(accuracy) == (20, 45.0)
