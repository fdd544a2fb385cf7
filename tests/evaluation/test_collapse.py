from __future__ import annotations

import math

import pytest
import torch

from mstkit.evaluation import CollapseStatistics, diagnose, effective_rank, feature_deviation

OUT_DIM = 4096
LN_K = math.log(OUT_DIM)
HEALTHY = CollapseStatistics(
    cross_entropy=5.1, teacher_entropy=4.0, kl=1.1, out_dim=OUT_DIM, feature_deviation=0.8, effective_rank=40.0
)


def test_healthy_run_is_not_warned_of() -> None:
    assert diagnose(HEALTHY) == []
    assert diagnose(CollapseStatistics()) == []


@pytest.mark.parametrize(
    ('change', 'says', 'remedy'),
    [
        ({'teacher_entropy': 0.999 * LN_K, 'cross_entropy': 0.999 * LN_K}, 'uniform collapse', 'teacher temperature'),
        ({'cross_entropy': 1.005 * LN_K}, 'sits at ln(out_dim)', 'learning rate'),
        ({'cross_entropy': 0.02, 'teacher_entropy': 0.01, 'kl': 0.01}, 'one-hot collapse', 'centering'),
        ({'feature_deviation': 0.001}, 'features are dead', 'learning rate'),
        ({'effective_rank': 1.2}, 'effective rank is 1.20', 'batch'),
        ({'effective_rank': float('nan')}, 'no longer finite', 'last good checkpoint'),
    ],
)
def test_each_collapse_is_named_with_a_remedy(change: dict, says: str, remedy: str) -> None:
    findings = diagnose(HEALTHY._replace(**change))
    assert len(findings) == 1
    assert says in findings[0] and remedy in findings[0]


@pytest.mark.parametrize(
    'change',
    [
        {'cross_entropy': 0.98 * LN_K},
        {'teacher_entropy': 0.05, 'cross_entropy': 3.0, 'kl': 2.95},  # sharp, but different from image to image
        {'feature_deviation': 0.1},
        {'effective_rank': 5.0},
        {'out_dim': None, 'cross_entropy': LN_K, 'teacher_entropy': LN_K},
    ],
)
def test_near_misses_are_not_warned_of(change: dict) -> None:
    assert diagnose(HEALTHY._replace(**change)) == []


def test_several_findings_are_all_said() -> None:
    findings = diagnose(HEALTHY._replace(teacher_entropy=LN_K, cross_entropy=LN_K, feature_deviation=0.0))
    assert len(findings) == 2


def test_deviation_of_known_features() -> None:
    spread = torch.randn(20000, 32, generator=torch.Generator().manual_seed(0))
    assert feature_deviation(spread) == pytest.approx(1.0, abs=0.01)
    assert feature_deviation(7 * spread) == pytest.approx(feature_deviation(spread))
    assert feature_deviation(torch.ones(50, 8)) == pytest.approx(0.0, abs=1e-6)
    # Half +e1, half -e1: the first dimension deviates by 1, the other three not at all.
    two_points = torch.tensor([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]])
    assert feature_deviation(two_points) == pytest.approx(0.25 * math.sqrt(4))


def test_rank_of_known_features() -> None:
    orthogonal = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(1)))[0]
    assert effective_rank(5 * orthogonal[:, :6]) == pytest.approx(6.0)
    assert effective_rank(torch.ones(9, 4)) == pytest.approx(1.0)
    assert effective_rank(torch.zeros(9, 4)) == 1.0
    # Singular values 3 and 1: shares 3/4 and 1/4.
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert effective_rank(torch.diag(torch.tensor([3.0, 1.0]))) == pytest.approx(math.exp(entropy))


@pytest.mark.parametrize('features', [torch.ones(1, 4), torch.ones(4)])
def test_too_few_features_are_refused(features: torch.Tensor) -> None:
    with pytest.raises(ValueError, match='at least two'):
        feature_deviation(features)
    with pytest.raises(ValueError, match='at least two'):
        effective_rank(features)


@pytest.mark.parametrize('change', [dict(cross_entropy=LN_K), dict(feature_deviation=0.01), dict(effective_rank=1.5)])
def test_a_rate_that_was_never_reached_is_not_to_be_lowered(change):
    for rates in ({}, dict(peak_lr=1e-3, config_lr=1e-3), dict(peak_lr=2e-4, config_lr=1e-3)):
        (finding,) = diagnose(HEALTHY._replace(**change, **rates))
        assert 'Lower the learning rate or make its warm-up longer, ' in finding
    (finding,) = diagnose(HEALTHY._replace(**change, peak_lr=1e-6, config_lr=1e-3))
    assert 'Lower' not in finding and 'warm-up longer' not in finding
    assert 'has been 1e-06 at most so far, 0.001 of the 0.001 of the config' in finding
