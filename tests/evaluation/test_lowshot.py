from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from mstkit.errors import UsageError
from mstkit.evaluation.evaluators import LowShotEvaluator
from mstkit.evaluation.protocols.few_shots import check_shots, draw_shots, images_needed, logistic_accuracy
from mstkit.structures import FeatureBank

from .evaluated_networks import evaluated_of, make_folders

LABELS = torch.arange(3).repeat(100)  # not in blocks: file order and class order differ
CLASSES = ('a', 'b', 'c')


def bank(size: int = 90, classes: int = 3, seed: int = 0) -> FeatureBank:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(size) % classes
    centers = torch.randn(classes, 12, generator=torch.Generator().manual_seed(99))
    features = centers[labels] + 1.5 * torch.randn(size, 12, generator=generator)
    return FeatureBank(features, labels, tuple(str(index) for index in range(classes)))


@pytest.mark.parametrize(
    ('shots', 'starts'),
    [(1, (0, 5, 10, 15, 20)), (5, (0, 5, 10, 15, 20)), (10, (0, 10, 20, 30, 40)), (20, range(0, 100, 20))],
)
def test_slices_are_attmasks(shots: int, starts: tuple[int, ...]) -> None:
    """Section 6.3 of the specification: consecutive files of each class, from these on."""
    found = list(draw_shots(LABELS, shots, 'slices', runs=5))
    assert len(found) == 5
    for start, chosen in zip(starts, found, strict=True):
        for label in range(3):
            own = [index for index in range(300) if index % 3 == label]
            assert [i for i in chosen.tolist() if i % 3 == label] == own[start : start + shots]
    assert images_needed(shots, 'slices', 5) == starts[-1] + shots


def test_random_draws() -> None:
    one, again, other = (list(draw_shots(LABELS, 20, 'random', 50, seed)) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one[0], other[0])
    assert not torch.equal(one[0], one[1])
    for chosen in one:
        assert len(set(chosen.tolist())) == 60
        assert LABELS[chosen].bincount().tolist() == [20] * 3
    # Every image of a class is as likely as any other: 50 * 20 / 100 = 10 times each, deviation 2.8.
    counts = torch.cat(one).bincount(minlength=300)
    assert int(counts.min()) > 0
    assert int(counts.max()) < 25


def test_classes_with_too_few_images_are_named() -> None:
    labels = torch.tensor([0] * 30 + [1] * 24 + [2] * 40)
    check_shots(labels, CLASSES, 1, 'slices', 5)
    check_shots(labels, CLASSES, 24, 'random', 5)
    with pytest.raises(UsageError, match="class 'b' has 24 train images, fewer than the 25 shots"):
        check_shots(labels, CLASSES, 25, 'random', 5)
    with pytest.raises(UsageError, match="class 'b' has 24 train images, and 5 consecutive slices of 5 need 25"):
        check_shots(labels, CLASSES, 5, 'slices', 5)
    check_shots(labels, CLASSES, 5, 'slices', 4)


@pytest.mark.parametrize('penalty', [0.01, 0.1, 1.0])
def test_logistic_regression_is_at_the_minimum_that_is_promised(penalty: float) -> None:
    """Against plain gradient descent on the objective in the docstring."""
    train, val = bank(60), bank(90, seed=1)
    rows, queries = (torch.nn.functional.normalize(one.features.double(), dim=1) for one in (train, val))
    weight = torch.zeros(3, 12, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=500, tolerance_grad=1e-10, line_search_fn='strong_wolfe')

    def objective() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(rows @ weight.T, train.labels)
        loss = loss + penalty / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(objective)
    expected = 100 * float(((queries @ weight.T).argmax(dim=1) == val.labels).double().mean())
    assert logistic_accuracy(train, val, penalty) == pytest.approx(expected)


@pytest.mark.parametrize('shots', [1, 2, 8])
def test_the_evaluator_equals_scikit_learn(tmp_path: Path, shots: int) -> None:
    evaluated = evaluated_of(make_folders(tmp_path, train=30, val=7), seed=4)
    evaluator = LowShotEvaluator(shots=[shots], runs=3, classifiers=('knn', 'logistic'))
    evaluator.check(evaluated)
    found = evaluator(evaluated)
    train, val = evaluated.bank('train'), evaluated.bank('val')
    unit = [torch.nn.functional.normalize(one.features, dim=1).numpy() for one in (train, val)]
    for draw in ('slices', 'random'):
        accuracy: dict[str, list[float]] = {'knn': [], 'logistic': []}
        for chosen in draw_shots(train.labels, shots, draw, 3, seed=4):
            rows, labels = unit[0][chosen], train.labels[chosen].numpy()
            k = 1 if shots == 1 else min(20, len(labels))
            # The distance between unit vectors is sqrt(2 - 2 cos).
            reference = KNeighborsClassifier(k, weights=lambda distance: np.exp((1 - distance**2 / 2) / 0.07))
            linear = LogisticRegression(C=10 / len(labels), fit_intercept=False, max_iter=1000)
            for name, model in (('knn', reference), ('logistic', linear)):
                right = model.fit(rows, labels).predict(unit[1]) == val.labels.numpy()
                accuracy[name].append(100 * right.mean())
        for name, values in accuracy.items():
            assert found[f'{name}_{shots}shot_{draw}'] == pytest.approx(statistics.fmean(values))
            assert found[f'{name}_{shots}shot_{draw}_std'] == pytest.approx(statistics.stdev(values))
    assert len(found) == 8
    assert next(iter(found)) in evaluator.headlines()
    assert set(evaluator.headlines()) == {name for name in found if not name.endswith('_std')}


def test_a_single_run_has_no_deviation(tmp_path: Path) -> None:
    evaluated = evaluated_of(make_folders(tmp_path))
    found = LowShotEvaluator(shots=(1, 5), draws='random', runs=1)(evaluated)
    assert list(found) == ['knn_1shot_random', 'knn_5shot_random']


def test_mistakes(tmp_path: Path) -> None:
    for settings, says in (
        (dict(shots=[0]), 'lowshot.shots is 0'),
        (dict(shots=[]), 'lowshot.shots is empty'),
        (dict(shots=[2.5]), r'lowshot.shots is \[2\.5\]'),
        (dict(runs=0), 'lowshot.runs is 0'),
        (dict(draws='slice'), "'slice' is none of slices, random. Did you mean slices"),
        (dict(classifiers=['knn', 'svm']), "'svm' is none of knn, logistic"),
        (dict(classifiers=[]), 'classifiers is empty'),
        (dict(temperature=0), 'temperature is 0'),
        (dict(penalty=-1.0), r'penalty is -1\.0'),
    ):
        with pytest.raises(UsageError, match=says):
            LowShotEvaluator(**settings)
    evaluated = evaluated_of(make_folders(tmp_path, train=8))
    with pytest.raises(UsageError, match="class 'dark' has 8 train images, fewer than the 10 shots"):
        LowShotEvaluator(shots=[5, 10], draws='random').check(evaluated)
    with pytest.raises(UsageError, match='consecutive slices of 1 need 21'):
        LowShotEvaluator(shots=1).check(evaluated)
