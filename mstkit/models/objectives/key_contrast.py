"""MoBY's objective: the student's queries of a view find the teacher's keys of the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.models.objectives.base import Objective, Surroundings
from mstkit.registry import MODELS

if TYPE_CHECKING:  # for the annotation: a step asks objectives, not the other way round
    from mstkit.models.step import Step

VIEWS = 2


@MODELS.register_module()
class KeyContrast(Objective):
    """InfoNCE of two views against queues of keys, through a predictor (MoBY, Xie et al., arXiv 2105.04553, section 3).

    Neck and predictor are necks of mmpretrain's, (B, C) in a tuple to (B, D) in a tuple, applied to one view at a
    time: batch normalization sees one view. Sizes that follow from another part (``in_channels`` of neck and predictor,
    ``dim`` of the head) are filled in where the config leaves them out.

    Args:
        neck: the projector; the teacher has one of its own.
        predictor: from projections to what is compared with keys; the student's alone.
        head: the loss with its queues, for example ``dict(type='MoBYHead')``.
        weight: what the loss is multiplied by.
        surroundings: see :class:`Objective`.

    Raises:
        UsageError: parts that do not fit each other.
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
        dim = _output_size(self.neck, channels, 'neck')
        self.predictor = MODELS.build(predictor, default_args=dict(in_channels=dim))
        self.head = MODELS.build(head, default_args=dict(dim=dim))
        self._method = surroundings.method
        predicted = _output_size(self.predictor, dim, 'predictor')
        if not dim == predicted == self.head.dim:
            raise UsageError(
                f'neck gives {dim} numbers per image, predictor {predicted}, and head.dim is {self.head.dim}: make '
                'them equal (out_channels of neck and predictor; head.dim follows where it is left out)'
            )

    def followed(self) -> dict[str, nn.Module]:
        """The teacher projects with a neck of its own; a predictor it has not."""
        return {'neck': self.neck}

    def forward(self, step: Step) -> Tensor:
        """See :meth:`Objective.forward`; the sum over both views."""
        with torch.no_grad():
            keys = _per_view(step.teacher_part(self.name, 'neck'), step.teacher.pooled)
        queries = _per_view(self.predictor, _per_view(self.neck, step.student_pooled))
        loss = self.head.loss(queries, keys)
        self.statistics = dict(self.head.statistics, contrast=loss.detach())
        return loss

    def check_views(self, global_size: int, local_size: int | None) -> None:
        """Local views are refused."""
        if local_size is not None:
            raise UsageError(
                f'{self._method} compares two global views and has no use for local ones (here of {local_size} px): '
                'set local_crops.count=0 of MultiCrop'
            )

    def check_view_count(self, sizes: Sequence[int], global_views: int) -> None:
        """Exactly two global views."""
        if len(sizes) != VIEWS or sizes[0] != sizes[1]:
            raise UsageError(
                f'{self._method} compares two global views of an image, and is given views of '
                f'{", ".join(map(str, sizes))} px: set global_crops.count=2 and local_crops.count=0 of MultiCrop'
            )

    def check_batch(self, images: int) -> None:
        """The queues take whole batches."""
        self.head.check_batch(images)


def _per_view(neck: nn.Module, features: Tensor) -> Tensor:
    """A neck of mmpretrain's on each view by itself: (2*B, C) to (2*B, D)."""
    return torch.cat([neck((view,))[0] for view in features.chunk(VIEWS)])


def _output_size(neck: nn.Module, channels: int, name: str) -> int:
    """D of a neck, by trying it on one image; UsageError where it cannot take pooled features."""
    neck.eval()  # one image has no batch statistics
    try:
        with torch.no_grad():
            (out,) = neck((torch.zeros(1, channels),))
    except Exception as error:  # whatever a foreign module does with an input that it was not made for
        reason = ' '.join(str(error).split())
        raise UsageError(
            f'{name} {type(neck).__name__} does not take pooled features, a tuple of one (B, {channels}): {reason}. '
            "mmpretrain's NonLinearNeck does with with_avg_pool=False and norm_cfg=dict(type='BN1d')"
        ) from error
    finally:
        neck.train()
    return out.shape[-1]
