"""Base class of losses on the distribution of a batch's features, which keep them apart without a target."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import torch
from mmengine import dist
from torch import Tensor
from torch.distributed.nn.functional import all_reduce

from mstkit.models.objectives.objective import Objective

if TYPE_CHECKING:  # for annotations only: importing it would be circular
    from mstkit.models.step import Step


class Regularizer(Objective):
    """A loss on the student's pooled features of the global views, in float32 whatever the precision of the step.

    It says nothing about what an image shows, so it trains no class token by itself and is added to other objectives:
    ``objectives=dict(koleo=dict(type='KoLeo'))``. With several masks of an image it is the mean over the copies, each
    of which is a batch by itself: two copies of an image are never told apart. Arguments: :class:`Objective`.
    """

    teaches_pooled = False
    several_masks = True

    def forward(self, step: Step) -> Tensor:
        """See :meth:`Objective.forward`."""
        features = step.student_global.unflatten(0, (step.copies, step.global_views, -1))
        with torch.autocast(features.device.type, enabled=False):
            if step.copies == 1:
                return self.penalty(features[0].float())
            found, noted = [], []
            for copy in features.float():
                found.append(self.penalty(copy))
                noted.append(self.statistics)
            self.statistics = {name: torch.stack([one[name] for one in noted]).mean() for name in noted[0]}
            return torch.stack(found).mean()

    @abstractmethod
    def penalty(self, features: Tensor) -> Tensor:
        """The loss, a scalar, of features (G, B, C) float32 of G global views; fills :attr:`statistics`."""


def images_of_all_ranks(features: Tensor) -> Tensor:
    """n, the images of an iteration over all ranks, a scalar, of this rank's features (G, B, C)."""
    images = features.new_full((), float(features.shape[1]))
    dist.all_reduce(images)
    return images


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum over ranks, with gradients such that their mean over ranks is that of a single process."""
    return all_reduce(values) if dist.get_world_size() > 1 else values
