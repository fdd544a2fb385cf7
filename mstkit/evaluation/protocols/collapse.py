"""Detection of collapse in self-distillation: statistics of features, and warnings with the known remedies."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

NEAR = 0.01
# A randomly initialized ViT has a deviation near 0.6 and an effective rank near 30 (128 photographs, 64 px).
DEAD_DEVIATION = 0.05
DEAD_RANK = 2.0
UNTRAINED = 0.1  # a run whose learning rate has stayed below this share of the config's has hardly been trained


class CollapseStatistics(NamedTuple):
    """Statistics of one epoch; None where the method does not provide one.

    Attributes:
        cross_entropy: mean of the distillation loss before its weight, in nats.
        teacher_entropy: mean entropy of the teacher's distribution over prototypes, in nats.
        kl: mean KL divergence from the teacher's distribution to the student's, in nats.
        out_dim: K, the number of prototypes.
        feature_deviation: see :func:`feature_deviation`.
        effective_rank: see :func:`effective_rank`.
        peak_lr: the highest learning rate of the run so far.
        config_lr: the learning rate of the config.
    """

    cross_entropy: float | None = None
    teacher_entropy: float | None = None
    kl: float | None = None
    out_dim: int | None = None
    feature_deviation: float | None = None
    effective_rank: float | None = None
    peak_lr: float | None = None
    config_lr: float | None = None


def feature_deviation(features: Tensor) -> float:
    """Measures how widely features are spread: 1 = over the whole sphere, 0 = every image gives the same feature.

    The standard deviation over images of each dimension of the L2-normalized features, averaged over dimensions,
    times sqrt(D) (Chen & He, arXiv 2011.10566, section 4.1).

    Args:
        features: (M, D), M >= 2.
    """
    _check(features)
    unit = functional.normalize(features.float(), dim=1)
    return float(unit.std(dim=0, correction=0).mean()) * math.sqrt(features.shape[1])


def effective_rank(features: Tensor) -> float:
    """The effective number of dimensions that features span: between 1 and min(M, D).

    The exponential of the entropy of the singular values divided by their sum (RankMe, arXiv 2210.02885, eq. 1).

    Args:
        features: (M, D), M >= 2.
    """
    _check(features)
    values = torch.linalg.svdvals(features.double())
    if float(values.sum()) == 0.0:
        return 1.0
    share = values / values.sum()
    return float(torch.exp(torch.special.entr(share).sum()))


def diagnose(statistics: CollapseStatistics) -> list[str]:
    """Finds known kinds of collapse in the statistics of an epoch.

    Args:
        statistics: the means of one epoch, after the warm-up (before it, a loss near ln K is normal).

    Returns:
        A description with remedies for each finding; empty if nothing is wrong.
    """
    findings = []
    slower = _lower_the_lr(statistics)
    entropy, kl, cross_entropy = statistics.teacher_entropy, statistics.kl, statistics.cross_entropy
    if statistics.out_dim is not None and statistics.out_dim > 1:
        highest = math.log(statistics.out_dim)
        if entropy is not None and entropy > (1 - NEAR) * highest:
            findings.append(
                f'uniform collapse: the teacher spreads every image evenly over all {statistics.out_dim} prototypes '
                f'(entropy {entropy:.3f} of at most ln K = {highest:.3f}), so there is nothing to learn from it. Lower '
                'the teacher temperature, make its warm-up longer or start it lower, make out_dim smaller, or make '
                'the center move faster (smaller center momentum).'
            )
        elif cross_entropy is not None and abs(cross_entropy - highest) < NEAR * highest:
            findings.append(
                f'the distillation loss sits at ln(out_dim): {cross_entropy:.3f} of {highest:.3f}; the student '
                f'predicts a uniform distribution. {slower}, make out_dim smaller for a small data set, make '
                'the batch larger, or check that the last layer is frozen for the first epoch only.'
            )
        if entropy is not None and kl is not None and entropy < 2 * NEAR * highest and kl < 2 * NEAR * highest:
            findings.append(
                f'this looks like one-hot collapse: the teacher puts all weight on one prototype and the student '
                f'matches it, probably the same one for every image (entropy {entropy:.4f}, KL {kl:.4f}, '
                f'ln K = {highest:.3f}). Check that centering is on, raise the teacher temperature, make the batch '
                'larger, or raise the momentum of the teacher towards 1. If the k-NN accuracy still rises, it is no '
                'collapse.'
            )
    deviation, rank = statistics.feature_deviation, statistics.effective_rank
    unusable = [value for value in (deviation, rank, entropy, kl, cross_entropy) if value is not None]
    if any(not math.isfinite(value) for value in unusable):
        findings.append(
            'the features or the losses are no longer finite. Go back to the last good checkpoint, if there is one; '
            'lower the learning rate, clip gradients harder, or use bf16 or fp32 instead of fp16.'
        )
    elif deviation is not None and deviation < DEAD_DEVIATION:
        findings.append(
            f'the features are dead: every image gives nearly the same one (deviation {deviation:.4f}; 1 is spread, 0 '
            f'is dead). {slower}, lower the weight decay, raise the momentum of the teacher, or make the batch larger.'
        )
    elif rank is not None and rank < DEAD_RANK:
        findings.append(
            f'the features vary along one line only: their effective rank is {rank:.2f}. {slower}, make the batch '
            'larger, or use more and smaller local crops.'
        )
    return findings


def _lower_the_lr(statistics: CollapseStatistics) -> str:
    """Advice about the learning rate: to lower it, unless the run is still far below the config's value."""
    peak, meant = statistics.peak_lr, statistics.config_lr
    if peak is None or not meant or peak >= UNTRAINED * meant:
        return 'Lower the learning rate or make its warm-up longer'
    return (
        f'The learning rate has been {peak:.2g} at most so far, {peak / meant:.2g} of the {meant:g} of the config, so '
        'little could be learned yet: wait for the end of the warm-up or make it shorter. If it stays so after that'
    )


def _check(features: Tensor) -> None:
    if features.ndim != 2 or features.shape[0] < 2:
        raise ValueError(f'features of shape {tuple(features.shape)}: (M, D) with at least two images are needed')
