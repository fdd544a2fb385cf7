"""CKA against equation 3 of Nguyen et al. in plain loops, and its invariances."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mstkit.analysis import LinearCKA, centered_gram, linear_cka


def features(count: int, size: int, seed: int) -> torch.Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain_hsic(one: np.ndarray, two: np.ndarray) -> float:
    """Equation 2, term by term: trace, product of the sums, product of the row sums."""
    count = len(one)
    k, m = one @ one.T, two @ two.T
    trace = total_k = total_m = joint = 0.0
    for i in range(count):
        for j in range(count):
            k_ij, m_ij = (k[i, j], m[i, j]) if i != j else (0.0, 0.0)
            trace += k_ij * m_ij
            total_k += k_ij
            total_m += m_ij
            for end in range(count):
                joint += k_ij * (m[j, end] if j != end else 0.0)
    middle = total_k * total_m / ((count - 1) * (count - 2))
    return (trace + middle - 2 / (count - 2) * joint) / (count * (count - 3))


def plain_cka(batches: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Equation 3."""
    cross, first, second = (
        np.mean([plain_hsic(pair[a], pair[b]) for pair in batches]) for a, b in ((0, 1), (0, 0), (1, 1))
    )
    return cross / np.sqrt(first * second)


def test_mini_batches_against_a_plain_loop():
    one = features(26, 7, 0) + 3  # a mean that is not zero
    two = torch.cat([one[:, :2] ** 2, features(26, 3, 1)], dim=1) - 5
    parts = list(zip(one.split([10, 9, 7]), two.split([10, 9, 7]), strict=True))
    measure = LinearCKA()
    for a, b in parts:
        first, second = centered_gram(a), centered_gram(b)
        measure.update(torch.stack([first, second]), torch.stack([second, first, first]))
    found = measure.result()
    expected = plain_cka([(a.numpy(), b.numpy()) for a, b in parts])
    assert found.shape == (2, 3)
    assert found[0, 0].item() == pytest.approx(expected, abs=1e-6)
    assert found[1, 1].item() == pytest.approx(expected, abs=1e-6)
    assert found[0, 1].item() == found[1, 0].item() == 1, 'to the bit: they are the same features'
    assert 0.1 < expected < 0.9, 'neither trivial'


def test_the_order_of_layers_and_networks_changes_no_bit():
    grams = torch.stack([centered_gram(features(37, size, seed)) for seed, size in enumerate((3, 11, 64, 5, 300))])
    order = torch.tensor([3, 0, 4, 1, 2])
    one, other, moved = LinearCKA(), LinearCKA(), LinearCKA()
    one.update(grams[:3], grams)
    other.update(grams, grams[:3])
    moved.update(grams[order])
    assert torch.equal(one.result(), other.result().T)
    assert torch.equal(moved.result()[:, (order < 3).nonzero().flatten()], other.result()[order][:, order[order < 3]])
    assert torch.equal(moved.result().diagonal(), torch.ones(5, dtype=torch.float64))


def test_same_features_and_what_they_may_be_turned_into():
    one, two = features(40, 12, 0), features(40, 5, 1) + features(40, 12, 0)[:, :5]
    turn = torch.linalg.qr(features(12, 12, 2))[0]
    between = linear_cka(one, two)
    assert linear_cka(one, one) == pytest.approx(1, abs=1e-9)
    assert linear_cka(one @ turn, two) == pytest.approx(between, abs=1e-6)
    assert linear_cka(one @ turn, one) == pytest.approx(1, abs=1e-6)
    assert linear_cka(100 * one, two / 7) == pytest.approx(between, abs=1e-6)
    assert linear_cka(one + 50, two - 20) == pytest.approx(between, abs=1e-5)
    assert linear_cka(two, one) == pytest.approx(between, abs=1e-12)
    stretch = torch.diag(torch.tensor([30.0] + [1.0] * 11, dtype=torch.float64))
    assert linear_cka(one @ stretch, one) < 0.9, 'but not to every linear map'
    assert linear_cka(one.view(40, 3, 4), two) == pytest.approx(between, abs=1e-12), 'tokens are flattened'


def test_unrelated_features_have_none_where_the_biased_estimate_has_much():
    found = [linear_cka(features(32, 200, 2 * seed), features(32, 200, 2 * seed + 1)) for seed in range(300)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(300) < 0.01
    one, two = (part - part.mean(dim=0) for part in (features(32, 200, 0), features(32, 200, 1)))
    biased = (one.T @ two).square().sum() / ((one.T @ one).norm() * (two.T @ two).norm())
    assert biased > 0.8


def test_the_mean_does_not_eat_the_digits():
    one = features(64, 30, 0).float()
    assert linear_cka(one + 1000, features(64, 30, 0)) == pytest.approx(1, abs=1e-4)


def test_a_layer_that_never_varies_has_no_similarity():
    measure = LinearCKA()
    measure.update(torch.stack([centered_gram(features(8, 3, 0)), centered_gram(torch.ones(8, 3))]))
    found = measure.result()
    assert found[0, 0].item() == pytest.approx(1)
    assert found[1].isnan().all() and found[:, 1].isnan().all()


def test_mistakes():
    with pytest.raises(ValueError, match='at least 4 images, not 3'):
        centered_gram(features(3, 5, 0))
    with pytest.raises(ValueError, match='5 images cannot be compared with one of 6'):
        LinearCKA().update(centered_gram(features(5, 2, 0))[None], centered_gram(features(6, 2, 0))[None])
    with pytest.raises(ValueError, match='no features'):
        LinearCKA().result()
