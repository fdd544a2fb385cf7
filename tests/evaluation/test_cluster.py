from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from mstkit.errors import UsageError
from mstkit.evaluation.evaluators import ClusterEvaluator
from mstkit.evaluation.protocols.clustering import cluster_agreement, hungarian_accuracy
from mstkit.evaluation.protocols.kmeans import k_means

from .evaluated_networks import CountingNetwork, evaluated_of, make_folders


def blobs(clusters: int = 6, each: int = 40, spread: float = 0.3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(clusters, 8, generator=generator)
    labels = torch.arange(clusters).repeat_interleave(each)
    rows = centers[labels] + spread * torch.randn(len(labels), 8, generator=generator)
    order = torch.randperm(len(labels), generator=generator)
    return rows[order], labels[order]


@pytest.mark.parametrize(('spread', 'rows_at_once'), [(0.3, 8192), (1.0, 7)])
def test_k_means_is_as_tight_as_scikit_learns(
    monkeypatch: pytest.MonkeyPatch, spread: float, rows_at_once: int
) -> None:
    monkeypatch.setattr('mstkit.evaluation.protocols.kmeans.ROWS', rows_at_once)
    rows, _ = blobs(spread=spread)
    found = k_means(rows, 6, seed=0, restarts=20)
    reference = KMeans(6, n_init=20, random_state=0, tol=0.0).fit(rows.double().numpy())
    assert found.inertia == pytest.approx(reference.inertia_, rel=0.003)
    # What is returned belongs together.
    distances = torch.cdist(rows.double(), found.centers.double()).square()
    assert torch.equal(found.assignment, distances.argmin(dim=1))
    assert found.inertia == pytest.approx(float(distances.min(dim=1).values.sum()), rel=1e-5)
    for cluster, center in enumerate(found.centers):
        torch.testing.assert_close(center, rows[found.assignment == cluster].mean(dim=0))


def test_one_move_from_the_same_centers_is_scikit_learns() -> None:
    rows, _ = blobs(spread=1.0)
    found = k_means(rows, 6, seed=3, iterations=4)
    start = k_means(rows, 6, seed=3, iterations=3)
    assert (start.iterations, found.iterations) == (3, 4)
    reference = KMeans(6, init=start.centers.numpy(), n_init=1, max_iter=1, tol=0.0).fit(rows.numpy())
    np.testing.assert_allclose(found.centers.numpy(), reference.cluster_centers_, rtol=1e-4, atol=1e-5)


def test_k_means_follows_from_its_seed() -> None:
    rows, _ = blobs(spread=2.0)
    before = torch.get_rng_state()
    one, again, other = (k_means(rows, 6, seed=seed, iterations=2) for seed in (0, 0, 1))
    assert torch.equal(one.assignment, again.assignment)
    assert not torch.equal(one.assignment, other.assignment)
    assert torch.equal(torch.get_rng_state(), before)
    several = k_means(rows, 6, seed=0, restarts=10, iterations=2)
    assert several.inertia <= one.inertia


def test_clusters_are_not_lost() -> None:
    """Five points for five clusters, of which many copies make it likely that a cluster goes empty."""
    points = torch.eye(5)
    rows = points.repeat_interleave(torch.tensor([50, 50, 1, 1, 1]), dim=0)
    for seed in range(20):
        found = k_means(rows, 5, seed=seed)
        assert found.inertia == pytest.approx(0, abs=1e-9)
    same = k_means(torch.ones(6, 3), 3)  # more clusters than different points
    assert same.inertia == pytest.approx(0, abs=1e-9)
    with pytest.raises(UsageError, match='7 clusters needs as many images, and there are 6'):
        k_means(torch.ones(6, 3), 7)
    with pytest.raises(UsageError, match='restarts is 0'):
        k_means(torch.ones(6, 3), 2, restarts=0)


def mutual_information(pairs: Counter) -> float:
    """I(cluster; class) over the mean of the two entropies, by the definition."""
    total = pairs.total()
    by_cluster, by_class = counts_of(pairs, 0), counts_of(pairs, 1)
    mutual = sum(n / total * math.log(n * total / by_cluster[k] / by_class[c]) for (k, c), n in pairs.items())
    entropies = [-sum(n / total * math.log(n / total) for n in side.values()) for side in (by_cluster, by_class)]
    return 2 * mutual / sum(entropies)


def adjusted_rand(pairs: Counter) -> float:
    """Hubert & Arabie, Journal of Classification 2 (1985), eq. 5."""

    def together(counts: Counter) -> int:
        return sum(math.comb(n, 2) for n in counts.values())

    by_cluster, by_class = together(counts_of(pairs, 0)), together(counts_of(pairs, 1))
    by_chance = by_cluster * by_class / math.comb(pairs.total(), 2)
    return (together(pairs) - by_chance) / ((by_cluster + by_class) / 2 - by_chance)


def counts_of(pairs: Counter, side: int) -> Counter:
    counts: Counter = Counter()
    for pair, n in pairs.items():
        counts[pair[side]] += n
    return counts


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize(('clusters', 'classes'), [(4, 4), (7, 3), (2, 6)])
def test_measures_are_as_defined(seed: int, clusters: int, classes: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (60,), generator=generator)
    noise = torch.randint(clusters, (60,), generator=generator)
    assignment = torch.where(torch.rand(60, generator=generator) < 0.5, labels % clusters, noise)
    found = cluster_agreement(assignment, labels)
    pairs = Counter(zip(assignment.tolist(), labels.tolist(), strict=True))
    assert list(found) == ['accuracy', 'nmi', 'ari']
    assert found['nmi'] == pytest.approx(mutual_information(pairs))
    assert found['ari'] == pytest.approx(adjusted_rand(pairs))
    # Every assignment of the fewer to the more, one after the other.
    few, many = sorted((clusters, classes))
    flipped = clusters > classes
    best = max(
        sum(pairs[(m, i) if flipped else (i, m)] for i, m in enumerate(chosen))
        for chosen in itertools.permutations(range(many), few)
    )
    assert found['accuracy'] == pytest.approx(100 * best / 60)


def test_measures_at_their_ends() -> None:
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    renamed = cluster_agreement(torch.tensor([2, 2, 0, 0, 1, 1]), labels)
    assert renamed == {'accuracy': 100.0, 'nmi': pytest.approx(1.0), 'ari': 1.0}
    one = cluster_agreement(torch.zeros(6, dtype=torch.int64), labels)
    assert one == {'accuracy': pytest.approx(100 / 3), 'nmi': 0.0, 'ari': 0.0}
    single = cluster_agreement(torch.zeros(4, dtype=torch.int64), torch.zeros(4, dtype=torch.int64))
    assert (single['nmi'], single['ari']) == (1.0, 1.0)
    # Greedy would give cluster 0 to class 0 (4 images) and be left with 1 of class 1: 5; the best is 3 + 3.
    assert hungarian_accuracy(np.array([[4, 3], [3, 1]])) == pytest.approx(100 * 6 / 11)


def test_the_evaluator_equals_scikit_learn_on_the_same_features(tmp_path: Path) -> None:
    """The three kinds of images are far enough apart for one best clustering."""
    evaluated = evaluated_of(make_folders(tmp_path, train=3, val=20))
    found = ClusterEvaluator()(evaluated)
    bank = evaluated.bank('val')
    rows = torch.nn.functional.normalize(bank.features, dim=1).numpy()
    clusters = KMeans(3, n_init=10, random_state=0).fit_predict(rows)
    assert list(found) == ['accuracy', 'nmi', 'ari']
    assert found['nmi'] == pytest.approx(normalized_mutual_info_score(bank.labels, clusters))
    assert found['ari'] == pytest.approx(adjusted_rand_score(bank.labels, clusters))
    assert 100 / 3 < found['accuracy'] <= 100
    on_train = ClusterEvaluator(split='train', last_blocks=2, mean_patch=True)
    on_train.check(evaluated)
    assert on_train(evaluated)['accuracy'] >= 100 / 3


def test_mistakes(tmp_path: Path) -> None:
    for settings, says in (
        (dict(split='test'), "split is 'test'"),
        (dict(restarts=0), 'restarts is 0'),
        (dict(iterations=1.5), r'iterations is 1\.5'),
    ):
        with pytest.raises(UsageError, match=says):
            ClusterEvaluator(**settings)
    evaluated = evaluated_of(make_folders(tmp_path, train=1, val=1), CountingNetwork())
    ClusterEvaluator().check(evaluated)
    evaluated._labels['val'] = torch.tensor([0, 1])
    with pytest.raises(UsageError, match='3 clusters need as many val images, and there are 2'):
        ClusterEvaluator().check(evaluated)
    with pytest.raises(UsageError, match='last_blocks is 9'):
        ClusterEvaluator(split='train', last_blocks=9).check(evaluated)
