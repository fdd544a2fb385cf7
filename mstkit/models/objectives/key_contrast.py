"""MoBY's objective: the student's queries of one view are contrasted with the teacher's keys of the other view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.models.objectives.objective import Objective, Surroundings
from mstkit.registry import MODELS

if TYPE_CHECKING:  # for annotations only: importing it would be circular
    from mstkit.models.step import Step

VIEWS = 2


@MODELS.register_module()
class KeyContrast(Objective):
    """InfoNCE of two views against queues of keys, through a predictor (MoBY, Xie et al., arXiv 2105.04553, section 3).

    Neck and predictor are necks of mmpretrain's, from a tuple of one (B, C) to a tuple of one (B, D). They are applied
    to one view at a time, so that batch statistics are those of one view. ``in_channels`` of neck and predictor and
    ``dim`` of the head default to the sizes of the preceding modules.

    Args:
        neck: the projector; the teacher has a moving average of it.
        predictor: maps the student's projections to queries; the teacher has none.
        head: the loss with its queues, for example ``dict(type='MoBYHead')``.
        weight: weight of the loss in the sum.
        surroundings: see :class:`Objective`.

    Raises:
        UsageError: sizes of neck, predictor and head that do not match.
    """

    teacher_needs = 'pooled'
    neck: Any
    predictor: Any
    head: Any

    def __init__(
        self, neck: dict, predictor: dict, head: dict, surroundings: Surroundings, weight: float = 1.0
    ) -> None:
        super().__init__(surroundings, weight)
        channels = surroundings.backbone.feature_dims
        self.neck = MODELS.build(neck, default_args=dict(in_channels=channels))
        dim = output_size(self.neck, channels, 'neck')
        self.predictor = MODELS.build(predictor, default_args=dict(in_channels=dim))
        self.head = MODELS.build(head, default_args=dict(dim=dim))
        self._method = surroundings.method
        predicted = output_size(self.predictor, dim, 'predictor')
        if not dim == predicted == self.head.dim:
            raise UsageError(
                f'neck gives {dim} numbers per image, predictor {predicted}, and head.dim is {self.head.dim}: make '
                "them equal (out_channels of neck and predictor; head.dim defaults to the neck's)"
            )

    def followed(self) -> dict[str, nn.Module]:
        """See :meth:`Objective.followed`: the neck, not the predictor."""
        return {'neck': self.neck}

    def forward(self, step: Step) -> Tensor:
        """See :meth:`Objective.forward`; the sum of both views' losses."""
        with torch.no_grad():
            keys = _per_view(step.teacher_part(self.name, 'neck'), step.teacher.pooled)
        queries = _per_view(self.predictor, _per_view(self.neck, step.student_pooled))
        loss = self.head.loss(queries, keys)
        self.statistics = dict(self.head.statistics, contrast=loss.detach())
        return loss

    def check_views(self, global_size: int, local_size: int | None) -> None:
        """Refuses local views."""
        if local_size is not None:
            raise UsageError(
                f'{self._method} compares two global views and cannot use local ones (here of {local_size} px): '
                'set local_crops.count=0 of MultiCrop'
            )

    def check_view_count(self, sizes: Sequence[int], global_views: int) -> None:
        """Refuses anything but two views of the same size."""
        if len(sizes) != VIEWS or sizes[0] != sizes[1]:
            raise UsageError(
                f'{self._method} compares two global views of an image, but the pipeline makes views of '
                f'{", ".join(map(str, sizes))} px: set global_crops.count=2 and local_crops.count=0 of MultiCrop'
            )

    def check_batch(self, images: int) -> None:
        """Refuses a global batch size that does not divide the queue size."""
        self.head.check_batch(images)


def _per_view(neck: nn.Module, features: Tensor) -> Tensor:
    """Applies a neck of mmpretrain's to each view separately: (2*B, C) to (2*B, D)."""
    return torch.cat([neck((view,))[0] for view in features.chunk(VIEWS)])


def output_size(neck: nn.Module, channels: int, name: str) -> int:
    """D of a neck, found by a forward pass of one image; UsageError if it does not accept pooled features."""
    neck.eval()  # batch statistics of one image are undefined
    try:
        with torch.no_grad():
            (out,) = neck((torch.zeros(1, channels),))
    except Exception as error:  # modules of other libraries raise all kinds of errors on a wrong input
        reason = ' '.join(str(error).split())
        raise UsageError(
            f'{name} {type(neck).__name__} does not take pooled features, a tuple of one (B, {channels}): {reason}. '
            "mmpretrain's NonLinearNeck does with with_avg_pool=False and norm_cfg=dict(type='BN1d')"
        ) from error
    finally:
        neck.train()
    return out.shape[-1]
