"""The step that DINO, iBOT and MST share: teacher → mask → student → losses."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from mstkit.checks import check_number
from mstkit.errors import UsageError
from mstkit.models.algorithms.teacher_student import TeacherStudent, as_map
from mstkit.models.backbones import Read
from mstkit.models.heads import patch_weights, step_together
from mstkit.models.maskers import Masker
from mstkit.registry import MODELS
from mstkit.structures import Progress, TokenOutput


class SelfDistillation(TeacherStudent):
    """A student that learns from its own moving average what it did not see itself.

    The teacher sees the global views whole; the student sees them with some patches hidden, and the local views. Up
    to three losses, each there when its part is:

    - L_CE, between the pooled features of different views (DINO; MST eq. 2), by ``neck`` and ``head``;
    - L_patch, between the hidden patches and what the teacher says of them (iBOT), by ``patch_head``;
    - L_restore, between the global views and the pictures that ``decoder`` makes of the student's tokens, over all
      pixels (MST eq. 9). The decoder belongs to the student alone.

    All are means. Sizes that follow from another part (``in_channels`` of a neck or decoder, ``out_dim`` of a head)
    are filled in where the config leaves them out.

    Args:
        backbone: a :class:`MaskedBackbone`.
        neck: pooled features (B, C) to logits (B, K).
        head: the loss on those logits, with its centre.
        teacher: the moving average; defaults to :class:`MomentumTeacher`'s own defaults.
        masker: what hides the student's patches; None or 'none' hides nothing.
        patch_head: the loss on hidden patches, with a centre of its own; None leaves it out.
        patch_neck: the projection of patches; ``neck`` does that too where it is not given (iBOT's shared head).
        decoder: tokens to pictures; None leaves the restoration out.
        loss_weight_ce: weight of L_CE.
        loss_weight_patch: weight of L_patch.
        loss_weight_restore: weight of L_restore.
        global_views: how many of the first views are global.
        data_preprocessor: normalisation, on the device.
        mask_token_std: what the [MASK] embedding starts as, see :class:`TeacherStudent`; zeros, as in iBOT's code.
        mask_token_decay: whether weight decay reaches it; it does in iBOT's code.

    Raises:
        UsageError: parts that do not fit each other.
    """

    FOLLOWED: ClassVar[tuple[str, ...]] = ('backbone', 'neck', 'patch_neck')
    neck: Any
    head: Any
    patch_neck: Any
    patch_head: Any

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        head: dict,
        teacher: dict | None = None,
        masker: dict | Masker | str | None = None,
        patch_head: dict | None = None,
        patch_neck: dict | None = None,
        decoder: dict | None = None,
        loss_weight_ce: float = 1.0,
        loss_weight_patch: float = 1.0,
        loss_weight_restore: float = 1.0,
        global_views: int = 2,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        mask_token_std: float = 0.0,
        mask_token_decay: bool = True,
    ) -> None:
        super().__init__(backbone, masker, global_views, data_preprocessor, init_cfg, mask_token_std, mask_token_decay)
        channels = dict(in_channels=self.backbone.feature_dims)
        self.neck = MODELS.build(neck, default_args=channels)
        self.head = _head_for(self.neck, head, 'head', 'neck')
        self._add_patch_loss(patch_head, patch_neck, channels)
        self.add_teacher(teacher)
        sizes = dict(channels, stride=self.backbone.stride)
        self.decoder = None if decoder is None else MODELS.build(decoder, default_args=sizes)
        self.loss_weight_ce = self._weight('loss_weight_ce', loss_weight_ce)
        self.loss_weight_patch = self._weight('loss_weight_patch', loss_weight_patch)
        self.loss_weight_restore = self._weight('loss_weight_restore', loss_weight_restore)

    def _weight(self, name: str, value: float) -> float:
        return check_number(f'{type(self).__name__}.{name}', value, 0, 1e6)

    def _add_patch_loss(self, head: dict | None, neck: dict | None, channels: dict[str, int]) -> None:
        self.patch_neck = self.patch_head = None
        if head is None:
            if neck is not None:
                raise UsageError('patch_neck is given without patch_head, whose logits it would make: give both')
            return
        if self.masker is None:
            raise UsageError(
                'patch_head is a loss on hidden patches and nothing hides any: give a masker, such as '
                "dict(type='BlockMasker'), or leave patch_head out"
            )
        if neck is not None:
            self.patch_neck = MODELS.build(neck, default_args=channels)
        shared = self.patch_neck or self.neck
        if getattr(shared, 'batch_norm', None):
            name = 'neck' if self.patch_neck is None else 'patch_neck'
            raise UsageError(
                f'{name}.batch_norm={shared.batch_norm!r}: the statistics of hidden patches, which can be none, are '
                'not those of pooled features; set it to None, or give patches a patch_neck of their own without it'
            )
        self.patch_head = _head_for(shared, head, 'patch_head', 'neck' if self.patch_neck is None else 'patch_neck')

    # -- one step ---------------------------------------------------------------------------------------------------

    def loss(self, inputs: list[Tensor], data_samples: list | None = None) -> dict[str, Tensor]:
        """One training step's losses.

        Args:
            inputs: V views, each (B, 3, H, W), normalised; the global ones first.
            data_samples: not used; labels never reach a self-supervised loss.

        Returns:
            ``loss_*`` scalars, weighted.
        """
        self.check_driven()
        views, count = len(inputs), self.global_views
        self.check_view_count([view.shape[-1] for view in inputs])
        images = torch.cat(inputs[:count])
        of_teacher, of_student = self.reads()
        seen, mask = self.look(images, read=of_teacher)
        with torch.no_grad():
            targets = self.teacher.neck(seen.pooled, views=count)
        student = self.study(images, mask, read=of_student)
        pooled = [student.pooled]
        for _, crops in groupby(inputs[count:], key=lambda view: view.shape):
            pooled.append(self.study(torch.cat(list(crops)), read='pooled').pooled)
        logits = self.neck(torch.cat(pooled), views=views, global_views=count)
        cross_view = self.head.loss(logits, targets, views, count)
        self.note(dict(self.head.statistics, cross_view=cross_view.detach()), mask)
        return {'loss_ce': self.loss_weight_ce * cross_view, **self.more_losses(images, seen, student, mask)}

    def check_view_count(self, sizes: Sequence[int]) -> None:
        """See :meth:`TeacherStudent.check_view_count`: the global views, and two at least."""
        name, needed = type(self).__name__, self.global_views
        alike = next((i for i, size in enumerate(sizes) if size != sizes[0]), len(sizes))  # how many look global
        if alike < needed:
            raise UsageError(
                f'{name} takes the first {needed} views of an image as its global ones (model.global_views), and of '
                f'the {len(sizes)} that it is given {alike} can be: set global_crops.count={needed} of MultiCrop'
            )
        if len(sizes) < 2:
            raise UsageError(
                f'{name} compares the views of an image, and is given one: set local_crops.count of MultiCrop to 1 '
                'or more'
            )

    def reads(self) -> tuple[Read, Read]:
        """Which tokens of the global views the losses read, the teacher's and the student's.

        The networks need not make the others. A method with other losses gets all tokens unless it says less here.
        """
        if type(self).more_losses is not SelfDistillation.more_losses:
            return 'all', 'all'
        patches = self.patch_head is not None  # the centre is the mean over all of the teacher's
        of_student: Read = 'all' if self.decoder is not None else 'hidden' if patches else 'pooled'
        return 'all' if patches else 'pooled', of_student

    def more_losses(
        self, images: Tensor, seen: TokenOutput, student: TokenOutput, mask: Tensor | None
    ) -> dict[str, Tensor]:
        """The losses on the global views; a method adds its own to them.

        Args:
            images: (G*B, 3, H, W), the global views, normalised.
            seen: the teacher's tokens of them.
            student: the student's.
            mask: (G*B, h, w) or None.

        Returns:
            ``loss_*`` scalars, weighted.
        """
        losses = {}
        if self.patch_head is not None:
            assert mask is not None
            losses['loss_patch'] = self.loss_weight_patch * self._patch_loss(seen, student, mask)
            self._statistics.update(self.patch_head.statistics)
        restored = self.restore(student, views=self.global_views)
        if restored is not None:
            losses['loss_restore'] = self.loss_weight_restore * F.l1_loss(restored.float(), images.float())
        return losses

    def _patch_loss(self, seen: TokenOutput, student: TokenOutput, mask: Tensor) -> Tensor:
        """Only hidden patches reach the last layer; its linearity gives the centre the mean over all of them."""
        assert self.patch_head is not None
        chosen = mask.flatten().nonzero().squeeze(1) if student.hidden is None else student.hidden
        shared = self.patch_neck is None
        with torch.no_grad():
            neck = self.teacher.neck if shared else self.teacher.patch_neck
            features = neck.bottleneck(seen.patch_tokens.flatten(0, 1))
            targets = neck.prototypes(features[chosen])
            # In half precision the one row would round where a mean over all logits would not.
            with torch.autocast(features.device.type, enabled=False):
                mean = neck.prototypes(features.float().mean(dim=0, keepdim=True))
            self.patch_head.remember(mean * len(features), len(features))
        predicted = (self.neck if shared else self.patch_neck)(student.patch_tokens.flatten(0, 1)[chosen])
        return self.patch_head.loss(predicted, targets, patch_weights(mask.flatten(1), chosen))

    def restore(self, student: TokenOutput, views: int = 1) -> Tensor | None:
        """See :meth:`TeacherStudent.restore`."""
        return None if self.decoder is None else self.decoder(as_map(student), views)

    def set_progress(self, progress: Progress) -> None:
        """See :meth:`TeacherStudent.set_progress`."""
        super().set_progress(progress)
        self.head.set_progress(progress)
        if self.patch_head is not None:
            self.patch_head.set_progress(progress)

    def after_step(self) -> None:
        """The teacher and the centres follow; called once after every optimizer step."""
        super().after_step()
        step_together([head for head in (self.head, self.patch_head) if head is not None])


def _head_for(neck: torch.nn.Module, head: dict, name: str, neck_name: str) -> torch.nn.Module:
    built = MODELS.build(head, default_args=dict(out_dim=neck.out_dim))
    if built.out_dim != neck.out_dim:
        raise UsageError(
            f'{neck_name}.out_dim is {neck.out_dim} and {name}.out_dim is {built.out_dim}: make them equal'
        )
    return built
