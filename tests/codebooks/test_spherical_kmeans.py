"""k-means on the sphere against plain loops and scikit-learn, its restarts, its resuming, and statistics of codes."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn import functional as F

from mstkit.codebooks import SphericalKMeans, code_statistics, initial_centers, perplexity
from mstkit.models.tokenizers import nearest_codes


def blobs(groups: int = 6, each: int = 40, dims: int = 16, spread: float = 0.15, seed: int = 0) -> Tensor:
    """Features of length 1 around orthogonal directions."""
    generator = torch.Generator().manual_seed(seed)
    middles = torch.eye(dims)[:groups].repeat_interleave(each, 0)
    rows = middles + spread * torch.randn(groups * each, dims, generator=generator)
    return F.normalize(rows[torch.randperm(len(rows), generator=generator)], dim=1)


def run(clusters: SphericalKMeans, steps: int = 100) -> SphericalKMeans:
    for _ in range(steps):
        if clusters.at_rest:
            break
        clusters.advance()
    return clusters


@pytest.mark.parametrize('seed', range(3))
def test_labels_are_those_of_scikit_learn(seed):
    """From the same first centers until nothing moves; where clusters are apart, a mean's length is no matter."""
    features = blobs(spread=0.07, seed=seed)
    first = initial_centers(features, 6, seed)
    ours = run(SphericalKMeans(features, 6, centers=first, tolerance=0))
    theirs = KMeans(6, init=first.numpy(), n_init=1, tol=0, max_iter=300).fit(features.numpy())
    assert ours.at_rest and ours.restarted == 0
    assert nearest_codes(features, ours.centers).tolist() == theirs.labels_.tolist()
    torch.testing.assert_close(ours.centers, F.normalize(torch.from_numpy(theirs.cluster_centers_), dim=1))


def test_a_step_is_that_of_a_loop():
    features = blobs(spread=0.6)
    clusters = SphericalKMeans(features, 9, seed=4)
    before = clusters.centers.clone()
    similarity = clusters.advance()
    groups: list[list[Tensor]] = [[] for _ in range(9)]
    cosines = []
    for row in features:
        best = max(range(9), key=lambda k: float(row @ before[k]))
        groups[best].append(row)
        cosines.append(float(row @ before[best]))
    assert similarity == pytest.approx(sum(cosines) / len(cosines), rel=1e-5)
    for center, group in zip(clusters.centers, groups, strict=True):
        total = torch.stack(group).sum(dim=0)
        torch.testing.assert_close(center, total / total.norm(), rtol=1e-4, atol=1e-5)


def test_a_mini_batch_step_is_that_of_a_loop():
    features = blobs()
    clusters = SphericalKMeans(features, 5, seed=1, batch=50)
    assert clusters.steps_per_pass == 4
    seen = [0] * 5
    for _ in range(3):
        before, batch = clusters.centers.clone(), clusters._chosen()
        clusters.advance()
        ids = nearest_codes(batch, before)
        for code in range(5):
            group = batch[ids == code]
            seen[code] += len(group)
            if len(group):
                moved = before[code] + len(group) / seen[code] * (group.mean(dim=0) - before[code])
                torch.testing.assert_close(clusters.centers[code], moved / moved.norm(), rtol=1e-4, atol=1e-5)
            else:
                assert torch.equal(clusters.centers[code], before[code])
    assert int(clusters.counts().sum()) == len(features)


def test_mini_batches_find_what_all_features_find():
    features = blobs(groups=6, each=200)
    clusters = run(SphericalKMeans(features, 6, batch=100, seed=3), 60)
    assert sorted(clusters.counts().tolist()) == [200] * 6


def test_dead_codes_start_again_far_from_their_centers():
    """Two codes opposite to everything get features of their own."""
    features = blobs(groups=4, spread=0.01)
    first = torch.stack([*torch.eye(16)[:2], -torch.ones(16) / 4, -torch.ones(16) / 4])
    clusters = SphericalKMeans(features, 4, centers=first, seed=2)
    clusters.advance()
    assert clusters.restarted == 2 and not clusters.at_rest
    assert all((features == center).all(dim=1).any() for center in clusters.centers[2:])
    run(clusters)
    assert sorted(clusters.counts().tolist()) == [40] * 4
    lazy = SphericalKMeans(features, 4, centers=first, seed=2, batch=40)
    for _ in range(lazy.steps_per_pass):
        assert lazy.restarted == 0, 'only after a pass is it known that a code got nothing'
        lazy.advance()
    assert lazy.restarted == 2


def test_copies_of_one_feature():
    """Fewer different features than codes end all the same, without NaN."""
    features = F.normalize(torch.ones(20, 4), dim=1)
    clusters = run(SphericalKMeans(features, 3), 5)
    assert clusters.centers.isfinite().all() and int(clusters.counts().sum()) == 20


@pytest.mark.parametrize('init', ['k-means++', 'random'])
def test_the_first_centers_are_features_by_the_seed(init):
    features = blobs()
    one, again, other = (initial_centers(features, 8, seed, init) for seed in (0, 0, 1))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert len(one.unique(dim=0)) == 8 and all((features == row).all(dim=1).any() for row in one)


def test_kmeans_plus_plus_spreads():
    """Of six groups far apart it takes one each."""
    features = blobs(spread=0.01)
    for seed in range(5):
        assert len(initial_centers(features, 6, seed).argmax(dim=1).unique()) == 6


@pytest.mark.parametrize('batch', [1000, 60])
def test_resumed_to_the_bit(batch):
    features = blobs(spread=0.8)
    whole = SphericalKMeans(features, 20, seed=5, batch=batch)
    cut = SphericalKMeans(features, 20, seed=5, batch=batch)
    for step in range(9):
        whole.advance()
        cut.advance()
        if step % 2:
            state = cut.state_dict()
            cut = SphericalKMeans(features, 20, seed=5, batch=batch, centers=state['centers'])
            cut.load_state_dict(state)
    for name, value in whole.state_dict().items():
        same = torch.equal(value, cut.state_dict()[name]) if isinstance(value, Tensor) else value == getattr(cut, name)
        assert same, name


def test_statistics_of_codes():
    counts = torch.tensor([6, 3, 0, 1])
    entropy = -sum(p * math.log(p) for p in (0.6, 0.3, 0.1))
    assert perplexity(counts) == pytest.approx(math.exp(entropy), rel=1e-12)
    assert perplexity(torch.full((7,), 3)) == pytest.approx(7) and perplexity(torch.zeros(4)) == 1
    found = code_statistics(counts)
    assert (found.codes, found.used, found.largest) == (4, 3, 0.6)
    assert str(found).startswith('3 of 4 codes in use (75.0 %), perplexity 2.5')
