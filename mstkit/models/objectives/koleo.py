"""KoLeo: the features of a batch are spread by the distance of each one to its nearest neighbor."""

from __future__ import annotations

import torch
from mmengine import dist
from torch import Tensor
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.models.objectives.objective import Surroundings
from mstkit.models.objectives.regularizer import Regularizer
from mstkit.registry import MODELS

SMALLEST = 1e-8  # distances are not told apart below this


@MODELS.register_module()
class KoLeo(Regularizer):
    """Mean over i of ``-log min over j != i of |x_i - x_j|``; x are the student's pooled features, scaled to length 1.

    The differential entropy of the features by its Kozachenko-Leonenko estimate, negated and up to a constant
    (Sablayrolles et al., ICLR 2019, section 3.2), with DINOv2's weight. As in DINOv2 neighbors are looked for within
    one global view, so never among the views of one image, and within the images of one process; the terms of the
    global views are added. Two equal features have gradient zero. An image that is alone in its batch counts 0.

    Args:
        weight: weight of the loss in the sum.
        surroundings: see :class:`Objective`.
    """

    def __init__(self, surroundings: Surroundings, weight: float = 0.1) -> None:
        super().__init__(surroundings, weight)

    def penalty(self, features: Tensor) -> Tensor:
        """See :meth:`Regularizer.penalty`."""
        if features.shape[1] < 2:
            return features.sum() * 0.0
        features = F.normalize(features, dim=-1)
        with torch.no_grad():
            cosines = features @ features.mT  # (G, B, B)
            cosines.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
            nearest = cosines.argmax(dim=-1, keepdim=True).expand_as(features)
        squares = (features - features.gather(1, nearest)).square().sum(dim=-1)  # (G, B)
        # The root's derivative is infinite at 0, the logarithm's of a sum is not.
        logs = 0.5 * (squares + SMALLEST**2).log()
        self.statistics = {'nearest_distance': squares.detach().sqrt().mean()}
        return -logs.mean(dim=-1).sum()

    def check_batch(self, images: int) -> None:
        """Refuses batches of a single image per process."""
        if images // dist.get_world_size() < 2:
            raise UsageError(
                'KoLeo compares the images that a process has in an iteration, but there is one: set '
                '--cfg-options train_dataloader.batch_size=2 or more, or leave the objective out'
            )
