"""Losses of single patches, and their means."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def patch_errors(predicted: Tensor, target: Tensor, loss: str, beta: float = 1.0) -> Tensor:
    """The error of each patch, in float32.

    Args:
        predicted: (B, L, D).
        target: (B, L, D), or (B, L) ids.
        loss: see :class:`MaskedPrediction`.
        beta: likewise.

    Returns:
        (B, L): means over the D values, or cross-entropies in nats.
    """
    predicted = predicted.float()
    if loss == 'cross_entropy':
        return F.cross_entropy(predicted.transpose(1, 2), target, reduction='none')
    if loss == 'mse':
        errors = F.mse_loss(predicted, target, reduction='none')
    elif loss == 'l1':
        errors = F.l1_loss(predicted, target, reduction='none')
    else:
        errors = F.smooth_l1_loss(predicted, target, reduction='none', beta=beta)
    return errors.mean(dim=-1)


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of values, (B, L) both, weights >= 0; zero if all weights are zero."""
    weights = weights.to(values.dtype)
    total = weights.sum()
    return (values * weights).sum() / total.where(total > 0, 1.0)


def hidden_around(mask: Tensor) -> Tensor:
    """The share of hidden patches among the nine of the 3x3 patches around each; beyond the border none is hidden.

    Args:
        mask: (B, h, w) bool.

    Returns:
        (B, h, w) float32 in [0, 1].
    """
    return F.avg_pool2d(mask.float()[:, None], kernel_size=3, stride=1, padding=1)[:, 0]
