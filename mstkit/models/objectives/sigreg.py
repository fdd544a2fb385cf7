"""SIGReg: the features of a batch are made an isotropic Gaussian (LeJEPA's regularization)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mstkit.models.objectives.objective import Surroundings
from mstkit.models.objectives.regularizer import Regularizer, images_of_all_ranks, sum_over_ranks
from mstkit.registry import MODELS
from mstkit.structures import Progress
from mstkit.utils.checks import check_size
from mstkit.utils.device_copies import copied_to

LARGEST, POINTS = 3.0, 17  # of t, from 0


@MODELS.register_module()
class SIGReg(Regularizer):
    """Mean over directions a of n times the integral of ``|phi_a(t) - exp(-t^2/2)|^2 exp(-t^2/2)`` over ``|t| <= 3``.

    phi_a(t) is the mean over the n images of exp(i t a.x), x the student's pooled features: the Epps-Pulley test
    that a.x is standard normal, for many directions ("sketched isotropic Gaussian regularization" of LeJEPA,
    Balestriero and LeCun, arXiv 2511.08544, section 4, with the constants of its code: trapezoids between 17 points
    from 0 to 3, doubled for negative t). The mean over the global views, over the images of all ranks. The directions
    are drawn anew in each iteration, by its number: alike on all ranks and after a resume.

    LeJEPA computes it of projections of all views, and weights it by lambda = 0.05 beside 1 - lambda for invariance.

    Args:
        directions: how many.
        weight: weight of the loss in the sum.
        surroundings: see :class:`Objective`.
    """

    def __init__(self, surroundings: Surroundings, directions: int = 1024, weight: float = 0.05) -> None:
        super().__init__(surroundings, weight)
        self.directions = check_size('SIGReg.directions', directions)
        self._iteration = 0

    def set_progress(self, progress: Progress) -> None:
        """Sets the iteration by whose number directions are drawn."""
        self._iteration = progress.iteration

    def drawn(self, channels: int) -> Tensor:
        """The iteration's directions, (channels, directions), each of length 1; on the CPU."""
        generator = torch.Generator().manual_seed(self._iteration)
        return F.normalize(torch.randn(channels, self.directions, generator=generator), dim=0)

    def penalty(self, features: Tensor) -> Tensor:
        """See :meth:`Regularizer.penalty`."""
        images = images_of_all_ranks(features)
        t = torch.linspace(0, LARGEST, POINTS, device=features.device)
        gaussian = (-t.square() / 2).exp()
        directions = copied_to(self.drawn(features.shape[-1]), features.device)
        angles = (features @ directions).unsqueeze(-1) * t  # (G, B, A, T)
        sums = sum_over_ranks(torch.stack((angles.cos().sum(dim=1), angles.sin().sum(dim=1))))  # (2, G, A, T)
        real, imaginary = sums / images
        squares = (real - gaussian).square() + imaginary.square()
        return images * 2 * torch.trapezoid(squares * gaussian, t, dim=-1).mean()
