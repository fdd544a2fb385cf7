from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from mstkit.errors import UsageError
from mstkit.evaluation.evaluators.retrieval import RetrievalEvaluator
from mstkit.evaluation.protocols import average_precision
from mstkit.evaluation.protocols.average_precision import (
    labeled_retrieval,
    precision_at,
    step_average_precision,
    trapezoid_average_precision,
)
from mstkit.registry import EVALUATORS
from mstkit.structures import FeatureBank


def bank(count: int, classes: int, seed: int) -> FeatureBank:
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(classes, 10, generator=torch.Generator().manual_seed(99))
    labels = torch.randint(classes, (count,), generator=generator)
    features = centers[labels] + 1.5 * torch.randn(count, 10, generator=generator)
    return FeatureBank(2 * features, labels, tuple(f'c{index}' for index in range(classes)))


def cosines(queries: FeatureBank, gallery: FeatureBank) -> np.ndarray:
    one, two = queries.features.double().numpy(), gallery.features.double().numpy()
    norms = np.linalg.norm(one, axis=1)[:, None] * np.linalg.norm(two, axis=1)
    return one @ two.T / norms


def by_plain_loops(hits: list[bool]) -> dict[str, float]:
    """Both average precisions and P@k of one ranking, from the definitions, one image at a time."""
    relevant = sum(hits)
    found, step, trapezoid, last = 0, 0.0, 0.0, 0
    for place, hit in enumerate(hits, start=1):
        if hit:
            before = 1.0 if place == 1 else found / (place - 1)
            found += 1
            last = place
            step += found / place / relevant
            trapezoid += (before + found / place) / 2 / relevant
    scores = {'step': step, 'trapezoid': trapezoid}
    for k in (1, 5, 10):
        seen = min(k, last)
        scores[f'mP@{k}'] = sum(hits[:seen]) / seen
    return scores


@pytest.fixture
def rankings() -> torch.Tensor:
    hits = torch.rand(40, 60, generator=torch.Generator().manual_seed(0)) < 0.15
    hits[0] = torch.arange(60) < 4  # perfect
    hits[1] = torch.arange(60) >= 56  # the worst
    hits[2] = torch.arange(60) == 3
    return hits


def test_rankings_equal_plain_loops(rankings):
    measured = {
        'step': step_average_precision(rankings),
        'trapezoid': trapezoid_average_precision(rankings),
        **{f'mP@{k}': precision_at(rankings, k) for k in (1, 5, 10)},
    }
    for row, hits in enumerate(rankings.tolist()):
        expected = by_plain_loops(hits)
        assert {name: float(values[row]) for name, values in measured.items()} == pytest.approx(expected)
    assert measured['trapezoid'][0] == measured['step'][0] == measured['mP@10'][0] == 1
    assert measured['step'][2] == pytest.approx(1 / 4)
    assert measured['trapezoid'][2] == pytest.approx(1 / 8)


def test_no_relevant_image_is_nan(rankings):
    rankings[5] = False
    for values in (step_average_precision(rankings), trapezoid_average_precision(rankings), precision_at(rankings, 5)):
        assert torch.isnan(values).nonzero().flatten().tolist() == [5]


def test_step_form_equals_scikit_learn(rankings):
    scores = -np.arange(60)
    expected = [average_precision_score(hits, scores) for hits in rankings.numpy()]
    assert step_average_precision(rankings).tolist() == pytest.approx(expected)


@pytest.mark.parametrize('pairs', [1, 500, 2**22])
def test_retrieval_equals_plain_loops_and_scikit_learn(pairs, monkeypatch):
    monkeypatch.setattr(average_precision, '_PAIRS', pairs)
    gallery, queries = bank(70, 5, seed=1), bank(23, 5, seed=2)
    similarity = cosines(queries, gallery)
    relevant = queries.labels.numpy()[:, None] == gallery.labels.numpy()
    measured = labeled_retrieval(queries, gallery)
    expected = [average_precision_score(*row) for row in zip(relevant, similarity, strict=True)]
    assert measured['mAP'] == pytest.approx(100 * np.mean(expected))
    orders = np.argsort(-similarity, axis=1)
    loops = [by_plain_loops(hits[order].tolist()) for hits, order in zip(relevant, orders, strict=True)]
    for k in (1, 5, 10):
        assert measured[f'mP@{k}'] == pytest.approx(100 * np.mean([row[f'mP@{k}'] for row in loops]))
    assert 20 < measured['mAP'] < 99


@pytest.mark.parametrize('pairs', [100, 2**22])
def test_leave_one_out_never_finds_itself(pairs, monkeypatch):
    monkeypatch.setattr(average_precision, '_PAIRS', pairs)
    data = bank(50, 6, seed=3)
    similarity = cosines(data, data)
    expected = []
    for own in range(50):
        others = [index for index in range(50) if index != own]
        hits = (data.labels[others] == data.labels[own]).numpy()
        expected.append(average_precision_score(hits, similarity[own][others]))
    measured = labeled_retrieval(data)
    assert measured['mAP'] == pytest.approx(100 * np.mean(expected))
    assert measured['mAP'] < labeled_retrieval(data, data)['mAP']


def test_ties_stay_in_file_order():
    same = FeatureBank(torch.ones(4, 3), torch.tensor([0, 1, 0, 1]), ('a', 'b'))
    query = FeatureBank(torch.ones(1, 3), torch.tensor([1]), ('a', 'b'))
    assert labeled_retrieval(query, same)['mAP'] == pytest.approx(100 * (1 / 2 + 2 / 4) / 2)


def test_queries_without_a_match_are_counted_and_left_out(monkeypatch):
    said = []
    monkeypatch.setattr(average_precision, 'print_log', lambda message, *_: said.append(message))
    gallery, queries = bank(40, 4, seed=4), bank(12, 4, seed=5)
    kept = gallery.labels != 2
    gallery = gallery._replace(features=gallery.features[kept], labels=gallery.labels[kept])
    usable = queries.labels != 2
    measured = labeled_retrieval(queries, gallery)
    fewer = queries._replace(features=queries.features[usable], labels=queries.labels[usable])
    assert measured == pytest.approx(labeled_retrieval(fewer, gallery))
    (message,) = said
    assert message.startswith(f'retrieval: {12 - int(usable.sum())} of 12 queries')


def test_mistakes():
    data = bank(20, 3, seed=6)
    lonely = FeatureBank(torch.randn(3, 10), torch.arange(3), data.classes)
    with pytest.raises(UsageError, match='nothing to retrieve'):
        labeled_retrieval(lonely)
    with pytest.raises(UsageError, match='different classes'):
        labeled_retrieval(data, data._replace(classes=('x', 'y', 'z')))
    for ranks in ((0,), (True,), 5, ('1',)):
        with pytest.raises(UsageError, match='mP@k'):
            labeled_retrieval(data, data, ranks=ranks)
    broken = data._replace(features=data.features.clone())
    broken.features[3, 1] = math.nan
    with pytest.raises(UsageError, match='1 of 20'):
        labeled_retrieval(broken)


class FakeSubject:
    """The two folders of a EvaluatedNetwork as banks."""

    def __init__(self, train: FeatureBank, val: FeatureBank) -> None:
        self.banks = {'train': train, 'val': val}
        self.asked: list[tuple] = []
        self.device = torch.device('cpu')

    def labels(self, split: str) -> torch.Tensor:
        return self.banks[split].labels

    def check_features(self, last_blocks: int = 1, mean_patch: bool = False) -> None:
        """It has all of them."""

    def bank(self, split: str, last_blocks: int = 1, mean_patch: bool = False) -> FeatureBank:
        self.asked.append((split, last_blocks, mean_patch))
        return self.banks[split]


def test_evaluator_reports_both_searches():
    evaluated = FakeSubject(bank(40, 4, seed=7), bank(15, 4, seed=8))
    evaluator = RetrievalEvaluator(ranks=[1, 3], last_blocks=4, mean_patch=True)
    evaluator.check(evaluated)
    measured = evaluator(evaluated)
    assert list(measured) == ['mAP', 'mP@1', 'mP@3', 'loo_mAP', 'loo_mP@1', 'loo_mP@3']
    assert measured['mAP'] == labeled_retrieval(evaluated.banks['val'], evaluated.banks['train'])['mAP']
    assert measured['loo_mAP'] == labeled_retrieval(evaluated.banks['val'])['mAP']
    assert set(evaluated.asked) == {('train', 4, True), ('val', 4, True)}


def test_evaluator_refuses_before_features_are_computed():
    data = bank(20, 3, seed=9)
    lonely = FeatureBank(torch.randn(3, 10), torch.arange(3), data.classes)
    for train, val, message in (
        (data, lonely, 'at least two images'),
        (
            data._replace(labels=torch.zeros(20, dtype=torch.int64)),
            data._replace(labels=torch.ones(20).long()),
            'no class',
        ),
    ):
        evaluated = FakeSubject(train, val)
        with pytest.raises(UsageError, match=message):
            RetrievalEvaluator().check(evaluated)
        assert evaluated.asked == []
    with pytest.raises(UsageError, match='mP@k'):
        RetrievalEvaluator(ranks=[0])


def test_evaluator_is_found_by_name():
    assert isinstance(EVALUATORS.build(dict(type='retrieval', ranks=[2])), RetrievalEvaluator)
