"""The entropy of heads' attention."""

from __future__ import annotations

import torch
from torch import Tensor

from mstkit.analysis.patch_attention import Maps, PatchAttention, distinct_windows, patch_attention, reach

SMALLEST = 1e-12  # attention weights are clamped to this before a logarithm


def log_attention(weights: Tensor) -> Tensor:
    """The natural logarithm of weights, which are clamped to at least :data:`SMALLEST`."""
    return weights.clamp_min(SMALLEST).log()


class AttentionEntropy:
    """The mean over images and queries of -sum_k A[q, k] log A[q, k], in nats, for each head of a block.

    Between 0 (each query attends to one patch) and ln P. It is the mean of the queries' entropies, not the entropy of
    mean attention. Batches are added by :meth:`update`; only N sums are kept.
    """

    def __init__(self) -> None:
        self.total: Tensor | float = 0.0
        self.queries = 0

    def update(self, patches: PatchAttention, logarithm: Tensor | None = None) -> None:
        """Adds a batch; ``logarithm`` is :func:`log_attention` of its weights, computed here if None."""
        logarithm = log_attention(patches.weights) if logarithm is None else logarithm
        summed = -(patches.weights * logarithm).sum(dim=(2, 3))
        self.total = self.total + summed.double().sum(dim=0).cpu()
        self.queries += patches.queries

    def result(self) -> Tensor:
        """(N,) float64, in nats."""
        if not isinstance(self.total, Tensor):
            raise ValueError('no attention was added')
        return (self.total / self.queries).clamp_min(0)


def attention_entropy(maps: Maps) -> Tensor:
    """The entropy of each head for one batch, mean over queries: (N,) float64, in nats."""
    measure = AttentionEntropy()
    measure.update(patch_attention(maps))
    return measure.result()


def uniform_entropy(patches: PatchAttention) -> float:
    """The highest possible entropy, in nats: ln of the number of patches in reach, mean over queries."""
    patches = distinct_windows(patches)
    return float(torch.log(reach(patches).sum(dim=-1)[patches.real].double()).mean())
