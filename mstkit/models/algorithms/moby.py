"""MoBY: self-supervised learning with Swin transformers (Xie et al. 2021, arXiv 2105.04553)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.models.algorithms.teacher_student import TeacherStudent
from mstkit.models.maskers import Masker
from mstkit.registry import MODELS

VIEWS = 2


@MODELS.register_module()
class MoBY(TeacherStudent):
    """MoCo's queue of keys with BYOL's predictor: the student's queries of a view find the teacher's keys of the other.

    The teacher follows at the start of the iteration after an optimizer step, before it makes the keys, with that
    iteration's momentum. Whether it still has to is in a buffer, so that a resumed run follows when the uninterrupted
    one would have; after the last step, as in every checkpoint, it is one step behind.

    Projector and predictor are necks of mmpretrain's, (B, C) in a tuple to (B, D) in a tuple, applied to one view at a
    time: batch normalisation sees one view. Sizes that follow from another part (``in_channels`` of neck and predictor,
    ``dim`` of the head) are filled in where the config leaves them out.

    Args:
        backbone: a :class:`MaskedBackbone`.
        neck: the projector; the teacher has one of its own.
        predictor: from projections to what is compared with keys; the student's alone.
        head: :class:`MoBYHead`, the loss with its queues.
        teacher: the moving average; :class:`MomentumTeacher` from momentum 0.99 where nothing else is said.
        masker: what hides the student's patches; None or 'none' hides nothing, as in the paper.
        data_preprocessor: normalisation, on the device.

    Raises:
        UsageError: parts that do not fit each other.
    """

    pending_steps: Tensor

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        predictor: dict,
        head: dict,
        teacher: dict | None = None,
        masker: dict | Masker | str | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(backbone, masker, VIEWS, data_preprocessor, init_cfg)
        channels = self.backbone.feature_dims
        self.neck = MODELS.build(neck, default_args=dict(in_channels=channels))
        dim = _output_size(self.neck, channels, 'neck')
        self.predictor = MODELS.build(predictor, default_args=dict(in_channels=dim))
        self.head = MODELS.build(head, default_args=dict(dim=dim))
        predicted = _output_size(self.predictor, dim, 'predictor')
        if not dim == predicted == self.head.dim:
            raise UsageError(
                f'neck gives {dim} numbers per image, predictor {predicted}, and head.dim is {self.head.dim}: make '
                'them equal (out_channels of neck and predictor; head.dim follows where it is left out)'
            )
        self.add_teacher({'momentum': 0.99, **(teacher or {})})
        # Optimizer steps of the student that the teacher has not followed yet.
        self.register_buffer('pending_steps', torch.zeros((), dtype=torch.long))
        # The same on the host; None where it has to be read, which waits for the device: at the start, after loading.
        self._pending: int | None = None

    def _load_from_state_dict(self, *args: Any, **settings: Any) -> None:
        super()._load_from_state_dict(*args, **settings)
        self._pending = None

    # -- one step ---------------------------------------------------------------------------------------------------

    def loss(self, inputs: list[Tensor], data_samples: list | None = None) -> dict[str, Tensor]:
        """One training step's loss.

        Args:
            inputs: two views, each (B, 3, H, W), normalised.
            data_samples: not used; labels never reach a self-supervised loss.

        Returns:
            ``loss_contrast``, the sum over both views.
        """
        self.check_driven()
        self.check_view_count([view.shape[-1] for view in inputs])
        self.follow()
        images = torch.cat(inputs)
        seen, mask = self.look(images, read='pooled')
        with torch.no_grad():
            keys = _per_view(self.teacher.neck, seen.pooled)
        student = self.study(images, mask, read='pooled')
        queries = _per_view(self.predictor, _per_view(self.neck, student.pooled))
        contrast = self.head.loss(queries, keys)
        self.note(dict(self.head.statistics, contrast=contrast.detach()), mask)
        return {'loss_contrast': contrast}

    def after_step(self) -> None:
        """Notes that the student moved; the teacher follows when the next iteration starts."""
        self.pending_steps += 1
        if self._pending is not None:
            self._pending += 1

    def follow(self) -> None:
        """Lets the teacher follow, once, where the optimizer stepped since it last did."""
        if not self.training:
            return
        if self._pending is None:
            self._pending = int(self.pending_steps)
        if self._pending:
            self.teacher.update(self.followed())
            self.pending_steps.zero_()
            self._pending = 0

    # -- what others may ask ----------------------------------------------------------------------------------------

    def check_views(self, global_size: int, local_size: int | None = None) -> None:
        """See :meth:`TeacherStudent.check_views`; local views are refused."""
        if local_size is not None:
            raise UsageError(
                f'MoBY compares two global views and has no use for local ones (here of {local_size} px): set '
                'local_crops.count=0 of MultiCrop'
            )
        super().check_views(global_size)

    def check_view_count(self, sizes: Sequence[int]) -> None:
        """See :meth:`TeacherStudent.check_view_count`: exactly two global views."""
        if len(sizes) != VIEWS or sizes[0] != sizes[1]:
            raise UsageError(
                f'MoBY compares two global views of an image, and is given views of {_listed(sizes)} px: set '
                'global_crops.count=2 and local_crops.count=0 of MultiCrop'
            )

    def check_batch(self, images: int) -> None:
        """See :meth:`TeacherStudent.check_batch`: the queues take whole batches."""
        self.head.check_batch(images)


def _listed(sizes: Sequence[int]) -> str:
    return ', '.join(map(str, sizes))


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
