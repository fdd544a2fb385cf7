"""DINO's objective: the student predicts, from each view, the teacher's assignment of the other views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.models.objectives.objective import Objective, Surroundings
from mstkit.registry import MODELS
from mstkit.structures import Progress

if TYPE_CHECKING:  # for annotations only: importing it would be circular
    from mstkit.models.step import Step


@MODELS.register_module()
class CrossView(Objective):
    """Cross-entropy between the pooled features of different views (DINO, Caron et al., ICCV 2021; MST eq. 2).

    Args:
        neck: projection of pooled features (B, C) to logits (B, K), for example ``dict(type='DINONeck')``; the teacher
            has a moving average of it.
        head: the loss on the logits, with its center, for example ``dict(type='DINOHead')``; ``out_dim`` defaults to
            the neck's.
        weight: weight of the loss in the sum.
        surroundings: see :class:`Objective`.

    Raises:
        UsageError: a head whose ``out_dim`` is not the neck's.
    """

    teacher_needs = 'pooled'
    reads_local = True
    several_masks = True
    neck: Any
    head: Any

    def __init__(self, neck: dict, head: dict, surroundings: Surroundings, weight: float = 1.0) -> None:
        super().__init__(surroundings, weight)
        self.neck = MODELS.build(neck, default_args=dict(in_channels=surroundings.backbone.feature_dims))
        self.head = head_for(self.neck, head, 'head', 'neck')
        self.prototypes = self.head.out_dim
        self._method = surroundings.method

    def followed(self) -> dict[str, nn.Module]:
        """See :meth:`Objective.followed`: the neck."""
        return {'neck': self.neck}

    def shared_projection(self) -> nn.Module:
        """See :meth:`Objective.shared_projection`: the neck."""
        return self.neck

    def forward(self, step: Step) -> Tensor:
        """See :meth:`Objective.forward`."""
        copies, teacher_views = step.copies, step.global_views
        local = len(step.views) - teacher_views
        masked = copies * teacher_views  # views of the student, each copy of a global one by itself
        with torch.no_grad():
            targets = step.teacher_part(self.name, 'neck')(step.teacher.pooled, views=teacher_views)
        logits = self.neck(step.student_pooled, views=masked + local, global_views=masked)
        loss = self.head.loss(logits, targets, teacher_views + local, teacher_views, copies)
        self.statistics = dict(self.head.statistics, cross_view=loss.detach())
        return loss

    def set_progress(self, progress: Progress) -> None:
        """Sets the teacher's temperature."""
        self.head.set_progress(progress)

    def check_view_count(self, sizes: Sequence[int], global_views: int) -> None:
        """Refuses fewer than two views, or fewer views of the first one's size than ``global_views``."""
        alike = next((i for i, size in enumerate(sizes) if size != sizes[0]), len(sizes))
        if alike < global_views:
            raise UsageError(
                f'{self._method} takes the first {global_views} views of an image as global views '
                f'(model.global_views), but only the first {alike} of {len(sizes)} views have the same size: set '
                f'global_crops.count={global_views} of MultiCrop'
            )
        if len(sizes) < 2:
            raise UsageError(
                f'{self._method} compares views of an image, but the pipeline makes only one: set local_crops.count of '
                'MultiCrop to 1 or more'
            )


def head_for(neck: nn.Module, head: dict, name: str, neck_name: str) -> nn.Module:
    """Builds the head for a neck's logits; ``out_dim`` defaults to the neck's, another one is a UsageError."""
    built = MODELS.build(head, default_args=dict(out_dim=neck.out_dim))
    if built.out_dim != neck.out_dim:
        raise UsageError(
            f'{neck_name}.out_dim is {neck.out_dim} and {name}.out_dim is {built.out_dim}: make them equal'
        )
    return built
