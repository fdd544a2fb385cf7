"""Patch tokens as colors: their first principal components as red, green and blue."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class TokenComponents(NamedTuple):
    """Principal components of tokens.

    Attributes:
        scores: (B, L, K), each token along each component, in the unit of the tokens; mean 0 over all B * L.
        axes: (K, C), the components: orthonormal, the greatest variance first. The sign of a component makes its
            largest entry positive.
        explained: (K,), the share of the total variance that each component explains, 0 to 1.
    """

    scores: Tensor
    axes: Tensor
    explained: Tensor


def token_pca(tokens: Tensor, count: int = 3) -> TokenComponents:
    """Principal components of the tokens of all images together, so that colors can be compared between images.

    Computed from the (C, C) covariance in float64, so that memory does not grow with the number of tokens.

    Args:
        tokens: (B, L, C), such as ``TokenOutput.patch_tokens``.
        count: K, the number of components.

    Raises:
        ValueError: tokens of another shape, or more components than channels.
    """
    if tokens.ndim != 3 or tokens.numel() == 0 or not 1 <= count <= tokens.shape[-1]:
        raise ValueError(f'{count} components of tokens of shape {tuple(tokens.shape)}; they have to be (B, L, C >= K)')
    flat = tokens.detach().double().flatten(0, 1)
    centered = flat - flat.mean(dim=0)
    variances, vectors = torch.linalg.eigh(centered.T @ centered / len(flat))
    variances = variances.flip(0).clamp_min(0)
    axes = vectors.T.flip(0)[:count]
    largest = axes.gather(1, axes.abs().argmax(dim=1, keepdim=True))
    axes = axes * largest.sign()
    total = variances.sum()
    explained = variances[:count] / total if total > 0 else torch.zeros_like(variances[:count])
    scores = (centered @ axes.T).view(*tokens.shape[:2], count)
    return TokenComponents(scores.float(), axes.float(), explained.float())


def scores_as_colors(scores: Tensor, cut: float = 0.01) -> Tensor:
    """Rescales each component to the range of a color channel.

    Args:
        scores: (B, L, K).
        cut: share of the tokens at either end that are clipped to 0 and 1, so that outliers do not compress the range
            of all others; at least 0 and below 0.5.

    Returns:
        (B, L, K), 0 to 1; a constant component becomes 0.5.
    """
    if not 0 <= cut < 0.5:
        raise ValueError(f'cut is {cut}; it is a share, from 0 and below 0.5')
    flat = scores.flatten(0, 1).double()
    low, high = (torch.quantile(flat, share, dim=0) for share in (cut, 1 - cut))
    span = high - low
    stretched = (scores - low) / torch.where(span > 0, span, 1)
    return torch.where(span > 0, stretched.clamp(0, 1), 0.5).float()
