"""Divergences between the attention of the heads of a block."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mstkit.analysis.attention_entropy import log_attention
from mstkit.analysis.patch_attention import Maps, PatchAttention, patch_attention


class Divergence(NamedTuple):
    """Mean divergences over images and queries between the N heads of a block, in nats.

    Attributes:
        kl: (N, N) float64, row i and column j is KL(i || j) = sum_k A_i log(A_i / A_j); 0 on the diagonal.
        js: (N, N) float64, Jensen-Shannon: symmetric, and at most ln 2.
    """

    kl: Tensor
    js: Tensor

    @property
    def symmetric(self) -> Tensor:
        """(N, N), the mean of KL(i || j) and KL(j || i)."""
        return (self.kl + self.kl.T) / 2


def per_head(matrix: Tensor) -> Tensor:
    """The mean divergence of each head to the others: (N, N) to (N,), mean over j ≠ i; NaN for a single head.

    The mean of the result is the mean over all ordered pairs.
    """
    others = matrix.masked_fill(torch.eye(len(matrix), dtype=torch.bool, device=matrix.device), 0)
    return others.sum(dim=1) / (len(matrix) - 1) if len(matrix) > 1 else torch.full_like(others[0], float('nan'))


class HeadDivergence:
    """Divergences of a block, added up over batches by :meth:`update`; only N x N sums are kept.

    KL(i || j) is the cross-entropy of i and j minus the entropy of i, so all pairs are computed by one matrix product
    of the attention with its logarithm, and no tensor is larger than the attention itself. Jensen-Shannon is computed
    pair by pair.
    """

    def __init__(self) -> None:
        self.cross: Tensor | float = 0.0
        self.middle: Tensor | float = 0.0
        self.queries = 0

    def update(self, patches: PatchAttention, logarithm: Tensor | None = None) -> None:
        """Adds a batch; ``logarithm`` is ``log_attention`` of its weights, computed here if None."""
        weights = patches.weights
        logarithm = log_attention(weights) if logarithm is None else logarithm
        # (W, N, P·P) times (W, P·P, N): one window at a time in float32, their sum in float64.
        cross = -(weights.flatten(2) @ logarithm.flatten(2).transpose(1, 2))
        self.cross = self.cross + cross.double().sum(dim=0).cpu()
        heads = weights.shape[1]
        middle = torch.zeros(heads, heads, dtype=torch.float64)
        for i in range(heads):
            for j in range(i + 1, heads):
                half = (weights[:, i] + weights[:, j]) / 2
                entropy = -(half * log_attention(half)).sum(dim=(1, 2)).double().sum().cpu()
                middle[i, j] = middle[j, i] = entropy
        self.middle = self.middle + middle
        self.queries += patches.queries

    def result(self) -> Divergence:
        """The mean divergences; values below 0 from rounding are set to 0."""
        if not isinstance(self.cross, Tensor):
            raise ValueError('no attention was added')
        entropy = self.cross.diagonal()
        kl = (self.cross - entropy[:, None]) / self.queries
        js = (self.middle - (entropy[:, None] + entropy[None, :]) / 2) / self.queries
        return Divergence(kl.clamp_min(0), js.fill_diagonal_(0).clamp_min(0))


def head_divergence(maps: Maps) -> Divergence:
    """The divergences between the heads of a block for one batch."""
    measure = HeadDivergence()
    measure.update(patch_attention(maps))
    return measure.result()
