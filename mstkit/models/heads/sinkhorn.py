"""Assignments of samples to prototypes that use all prototypes alike: SwAV's Sinkhorn-Knopp iterations."""

from __future__ import annotations

import torch
from mmengine import dist
from torch import Tensor
from torch.nn import functional as F


@torch.no_grad()
def sinkhorn_log_assignments(scores: Tensor, iterations: int = 3) -> Tensor:
    """Divides exp(scores) by the sums over prototypes and over samples in turn (Caron et al., NeurIPS 2020, sec. 3.1).

    Each iteration gives all prototypes the same total over the samples of all ranks, then all samples the total 1. The
    iterations are computed on logarithms, so no score is too large or too small. Ranks may have different numbers of
    samples, none included, and every sample has the same weight, as in DINOv2.

    Args:
        scores: (M, K) float32, logits divided by the temperature, of this rank's M samples.
        iterations: how often; 3 in SwAV, DINOv2 and DINOv3.

    Returns:
        (M, K), the logarithms of the assignments; exp of a row sums to 1.
    """
    for _ in range(iterations):
        scores = F.log_softmax(scores - _log_sum_over_ranks(scores.logsumexp(dim=0)), dim=1)
    return scores


def _log_sum_over_ranks(logs: Tensor) -> Tensor:
    """log of the sum over ranks of exp(logs), (K,); -inf of a rank without samples is a sum of zero."""
    highest = logs.clone()
    dist.all_reduce(highest, 'max')
    sums = (logs - highest).exp()
    dist.all_reduce(sums)
    return highest + sums.log()
