"""One iteration: what was seen, what was hidden, and the tokens that came of it, each made once and when it is read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mstkit.models.backbones.masked_backbone import expand_mask
from mstkit.models.maskers.functional import coarser
from mstkit.structures import MaskContext, Read, TokenOutput, VisibleOutput

if TYPE_CHECKING:  # the pretrainer makes steps: at run time it is the one that knows this module
    from mstkit.models.pretrainer import Pretrainer


class Step:
    """One iteration of a :class:`Pretrainer`, of which an objective reads what it needs.

    Args:
        model: the pretrainer.
        views: V views, each (B, 3, H, W), normalized; the G global ones first, all of one size.
        attention: compute the teacher's attention in any case, for a panel of it.
        read_all: give all tokens of the student, whatever the objectives need, for a panel of what it restores.
    """

    def __init__(
        self, model: Pretrainer, views: Sequence[Tensor], attention: bool = False, read_all: bool = False
    ) -> None:
        self.model, self.views = model, list(views)
        self.global_views = min(model.global_views, len(self.views))
        self._attention, self._read_all = attention, read_all

    @cached_property
    def images(self) -> Tensor:
        """The global views, (G*B, 3, H, W), view by view."""
        return torch.cat(self.views[: self.global_views])

    @cached_property
    def mask(self) -> Tensor | None:
        """What the student does not see of the global views: (G*B, h, w) bool, True = hidden; None without a masker.

        The guide is asked only if the masker needs something of it. Where several patches are hidden or shown as one
        (``mask_patch_size``), the masker decides on the coarser grid, by the mean of what the guide says of them.
        """
        masker, cell = self.model.masker, self.model.mask_cell
        if masker is None:
            return None
        context = MaskContext(self.images, self.model.backbone.grid_of(self.images))
        if masker.needs_scores or masker.needs_tokens:
            tokens = self.model.guide(self, masker)
            context = context._replace(
                tokens=tokens.patch_tokens if masker.needs_tokens else None, scores=tokens.attention
            )
        return expand_mask(masker(coarser(context, cell)), context.grid)

    @cached_property
    def teacher(self) -> TokenOutput:
        """The teacher's tokens of the whole global views; no gradient reaches them.

        All tokens are there if an objective or the masker reads them, and attention if the masker is guided by it.
        """
        masker, guided = self.model.masker, self.model.guided_by_teacher
        scores = guided and masker is not None and masker.needs_scores
        tokens = guided and masker is not None and masker.needs_tokens
        layer = masker.layer if scores and masker is not None else -1
        read: Read = 'all' if tokens else self.model.teacher_needs or 'pooled'
        return self.model.teacher_forward(self.images, self._attention or scores, layer, read)

    @cached_property
    def student(self) -> TokenOutput:
        """The student's tokens of the global views without what is hidden."""
        return self.model.student_forward(self.images, self.mask, 'all' if self._read_all else self.model.student_needs)

    @cached_property
    def visible(self) -> VisibleOutput:
        """The student's tokens of the visible patches of the global views, where its encoder sees no others."""
        return self.model.student_forward_visible(self.images, self.mask)

    @cached_property
    def student_local(self) -> list[TokenOutput]:
        """The student's pooled tokens of the local views, one entry for each run of views of the same size."""
        local = groupby(self.views[self.global_views :], key=lambda view: view.shape)
        return [self.model.student_forward(torch.cat(list(crops)), None, 'pooled') for _, crops in local]

    @property
    def student_pooled(self) -> Tensor:
        """The student's pooled features of all views, (V*B, C), view by view."""
        # Before the local views, since both may draw.
        student = self.visible if self.model.encoder_sees == 'visible' else self.student
        return torch.cat([student.pooled, *(tokens.pooled for tokens in self.student_local)])

    def part(self, objective: str, name: str) -> Any:
        """The student's part of an objective, for example ``part('ce', 'neck')``."""
        return getattr(self.model.objectives[objective], name)

    def teacher_part(self, objective: str, name: str) -> Any:
        """The teacher's copy of a part that the objective says is followed."""
        return self.model.teacher.get_submodule(f'{objective}_{name}')
