"""Coding rate: the features of a batch are spread by the volume that they fill (SimDINO's expansion term)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mstkit.models.objectives.objective import Surroundings
from mstkit.models.objectives.regularizer import Regularizer, images_of_all_ranks, sum_over_ranks
from mstkit.registry import MODELS
from mstkit.utils.checks import check_number


@MODELS.register_module()
class CodingRate(Regularizer):
    """-gamma R, R = 1/2 log det(I + d / (n eps^2) sum over i of x_i x_i^T), gamma = (d + n) / (d n).

    x are the student's pooled features of the n images of all ranks, of d channels, scaled to length 1. R is large if
    they point in many directions (SimDINO, Wu et al., ICML 2025, arXiv 2502.10385; gamma, which keeps the term's size
    alike for every d and n, and the constants are those of its code). The mean over the global views. SimDINO computes
    it of its projections and puts it in place of centering and temperatures; here it is added to what is there.

    Args:
        squared_eps: eps^2, the squared error with which a feature is coded: 0.5 for SimDINO, 0.05 for SimDINOv2.
        weight: weight of the loss in the sum.
        surroundings: see :class:`Objective`.
    """

    def __init__(self, surroundings: Surroundings, squared_eps: float = 0.5, weight: float = 1.0) -> None:
        super().__init__(surroundings, weight)
        self.squared_eps = check_number('CodingRate.squared_eps', squared_eps, 1e-6, 1e6)

    def penalty(self, features: Tensor) -> Tensor:
        """See :meth:`Regularizer.penalty`."""
        features = F.normalize(features, dim=-1)
        channels, images = features.shape[-1], images_of_all_ranks(features)
        moments = sum_over_ranks(features.mT @ features)  # (G, C, C)
        coded = torch.eye(channels, device=features.device) + channels / (images * self.squared_eps) * moments
        # All eigenvalues are 1 or more: it has a Cholesky factor, whose diagonal multiplies to the determinant's root.
        rate = torch.linalg.cholesky_ex(coded)[0].diagonal(dim1=1, dim2=2).log().sum(dim=-1).mean()
        self.statistics = {'coding_rate': rate.detach()}
        return -(channels + images) / (channels * images) * rate
