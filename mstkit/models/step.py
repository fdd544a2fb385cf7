"""One training iteration: views, mask, and the student's and teacher's tokens, each computed once, on first access."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mstkit.models.backbones.masked_backbone import expand_mask
from mstkit.models.guides import TeacherGuide
from mstkit.models.maskers import Masker
from mstkit.models.maskers.functional import coarser, importance_of
from mstkit.models.part_checks import request_of
from mstkit.structures import DrawnMask, MaskContext, PanelData, Read, TokenOutput, VisibleOutput

if TYPE_CHECKING:  # for the annotation only: the pretrainer imports this module
    from mstkit.models.pretrainer import Pretrainer


class Step:
    """One iteration of a :class:`Pretrainer`; every property is computed when an objective first accesses it.

    The student sees each of the G*B global views M times, each time under another mask (``masks_per_image``). What is
    made of the whole view is made once and has G*B rows: ``images``, ``guidance``, ``importance``, ``teacher``. What
    depends on a mask has M*G*B rows, copy by copy, each of which is view by view: ``mask``, ``thrown``,
    ``student_images``, ``student``, ``visible``, ``seen``, ``student_global``, ``patch_errors``. :meth:`per_copy`
    brings the former to the rows of the latter. With M = 1 they are the same.

    Args:
        model: the pretrainer.
        views: of each image, (B, 3, H, W) each, normalized; the G global ones first, all of one size, then the target
            view if an objective needs one, then the local ones.
        attention: compute the teacher's attention even if the masker does not need it (for panels).
        read_all: compute all of the student's tokens even if the objectives need fewer (for panels).
        data_samples: what is known of the B images, for a guide that keeps scores; labels are never read.
        copies: M; None for the model's ``masks_per_image``.

    Attributes:
        views: the V views that the student sees; without the target view.
        target_view: (B, 3, H, W), the view that the teacher alone sees; None if no objective needs it.
        global_views: G.
        copies: M.
        patch_errors: the loss of each hidden patch, (M*G*B, L) float32 without gradient, by the name of the objective;
            those of visible patches mean nothing. Filled as objectives run, where a later one reads them.
        visibilities: how visible a :class:`CurriculumMasking` makes each patch, (G*B, L) float32 with gradient to its
            network, by the name of the objective; filled by whoever asks first, the guide or the objective.
    """

    def __init__(
        self,
        model: Pretrainer,
        views: Sequence[Tensor],
        attention: bool = False,
        read_all: bool = False,
        data_samples: Sequence[Any] | None = None,
        copies: int | None = None,
    ) -> None:
        self.model, self.views, self.data_samples = model, list(views), data_samples
        self.patch_errors: dict[str, Tensor] = {}
        self.visibilities: dict[str, Tensor] = {}
        self.copies = model.masks_per_image if copies is None else copies
        self.global_views = min(model.global_views, len(self.views))
        has_target = model.target_needs is not None and len(self.views) > model.global_views
        self.target_view = self.views.pop(model.global_views) if has_target else None
        self._attention, self._read_all = attention, read_all
        self._teacher_passes = 2 if has_target else 1

    @cached_property
    def images(self) -> Tensor:
        """The global views, (G*B, 3, H, W), view by view."""
        return torch.cat(self.views[: self.global_views])

    @cached_property
    def student_images(self) -> Tensor:
        """The global views as the student gets them, once for each mask, (M*G*B, 3, H, W), copy by copy."""
        return self.per_copy(self.images)

    def per_copy(self, values: Tensor) -> Tensor:
        """Values of the global views, (G*B, ...), for each masked copy: (M*G*B, ...); with one copy the values."""
        return values if self.copies == 1 else values.repeat(self.copies, *[1] * (values.ndim - 1))

    @property
    def grid(self) -> tuple[int, int]:
        """The patches of a global view, (h, w)."""
        return self.model.backbone.grid_of(self.images)

    @cached_property
    def request(self) -> Masker | None:
        """Who asks the guide, see :func:`request_of`."""
        return request_of(self.model.masker, self.model.objectives.values())

    @cached_property
    def guidance(self) -> TokenOutput | None:
        """What the guide says of the unmasked global views; None if nobody needs scores or tokens."""
        request = self.request
        if request is None or not (request.needs_scores or request.needs_tokens):
            return None
        return self.model.guide(self, request)

    @property
    def importance(self) -> Tensor:
        """The guide's score of each patch of the global views, mean over heads, (G*B, L) float32.

        For an objective with ``needs_scores``.
        """
        assert self.guidance is not None and self.guidance.attention is not None
        request = self.request
        return importance_of(self.guidance.attention, request is not None and request.exclude_cls_key)

    @cached_property
    def drawn(self) -> DrawnMask | None:
        """The masks of all copies of the global views, (M*G*B, h, w) bool each; None without a masker.

        Every copy is a draw of its own for the whole batch, with the same scores and tokens; the masks of the first are
        those that a single one would have. The guide runs only if the masker needs its scores or tokens. With
        ``mask_patch_size`` the masker works on the coarser grid, with the guide's scores and tokens averaged over each
        square of patches.
        """
        masker, cell = self.model.masker, self.model.mask_cell
        if masker is None:
            return None
        context = MaskContext(self.images, self.model.backbone.grid_of(self.images))
        if self.guidance is not None:
            context = context._replace(
                tokens=self.guidance.patch_tokens if masker.needs_tokens else None, scores=self.guidance.attention
            )
        seen = coarser(context, cell)
        hidden, thrown = _joined([masker.draw(seen) for _ in range(self.copies)])
        return DrawnMask(
            expand_mask(hidden, context.grid), None if thrown is None else expand_mask(thrown, context.grid)
        )

    @property
    def mask(self) -> Tensor | None:
        """The masks of all copies, (M*G*B, h, w) bool, True = hidden from the student; None without a masker."""
        return None if self.drawn is None else self.drawn.hidden

    @property
    def thrown(self) -> Tensor | None:
        """The thrown patches of all copies, likewise; neither encoded nor predicted. None if none are thrown."""
        return None if self.drawn is None else self.drawn.thrown

    def mask_shares(self) -> dict[str, Tensor]:
        """Shares of the patches of all copies: ``hidden_fraction`` with a masker, ``thrown_fraction`` if it throws."""
        masks = {'hidden_fraction': self.mask, 'thrown_fraction': self.thrown}
        return {name: mask.float().mean() for name, mask in masks.items() if mask is not None}

    @cached_property
    def teacher(self) -> TokenOutput:
        """The teacher's tokens of the unmasked global views, without gradient.

        Holds all patch tokens if an objective or the masker needs them, and attention if the masker needs it; of its
        inner layers as many as an objective needs.
        """
        masker, guided = self.request, self.model.guided_by_teacher
        asked = guided and masker is not None and masker.needs_scores
        scores = asked and not self.model.guide.from_tokens
        tokens = (asked and not scores) or (guided and masker is not None and masker.needs_tokens)
        layer = masker.layer if scores and masker is not None else -1
        attention: bool | str = self._attention or scores
        if scores and self.model.guide.score != 'class_token':
            attention = self.model.guide.score
        layers = max(one.teacher_layers for one in self.model.objectives.values())
        read: Read = 'all' if tokens else self.model.teacher_needs or 'pooled'
        return self._of_teacher(self.images, attention, layer, read, layers)

    @cached_property
    def target(self) -> TokenOutput:
        """The teacher's tokens of the target view, without gradient; for an objective with ``target_needs``."""
        assert self.target_view is not None
        layers = max(one.target_layers for one in self.model.objectives.values())
        return self._of_teacher(self.target_view, False, -1, self.model.target_needs or 'pooled', layers)

    def _of_teacher(self, images: Tensor, attention: bool | str, layer: int, read: Read, layers: int) -> TokenOutput:
        """A pass of the teacher, after the last of which its weights are no longer held in half precision."""
        tokens = self.model.teacher_forward(images, attention, layer, read, layers)
        self._teacher_passes -= 1
        if not self._teacher_passes:
            self.model.weight_casts.give_back(self.model.teacher.backbone)
        return tokens

    @cached_property
    def student(self) -> TokenOutput:
        """The student's tokens of all masked copies, with [MASK] tokens in place of the hidden patches.

        Holds as many of its inner layers as an objective needs.
        """
        read: Read = 'all' if self._read_all else self.model.student_needs
        return self.model.student_forward(self.student_images, self.mask, read, self._student_layers, self._visibility)

    @cached_property
    def visible(self) -> VisibleOutput:
        """The student's tokens of the visible patches of all masked copies, for ``encoder_sees='visible'``.

        Holds as many of its inner layers as an objective needs.
        """
        unseen = self.mask
        if unseen is not None and self.thrown is not None:
            unseen = unseen | self.thrown
        seen = self.model.student_forward_visible(self.student_images, unseen, self._student_layers, self._visibility)
        return seen._replace(thrown=self.thrown)

    @property
    def seen(self) -> TokenOutput | VisibleOutput:
        """The student's tokens of all masked copies, of the patches that its encoder sees."""
        return self.visible if self.model.encoder_sees == 'visible' else self.student

    def seen_at(self, visibility: Tensor, mask: Tensor | None = None) -> TokenOutput | VisibleOutput:
        """A further pass of the student over the global views, whose patches are visible in part.

        Like :attr:`seen` it is of all patches with [MASK] tokens, or of the visible ones alone, as the method is.

        Args:
            visibility: (G*B, h, w) float in [0, 1], with a gradient to it, see :meth:`MaskedBackbone.forward_tokens`
                and :meth:`MaskedBackbone.forward_visible`.
            mask: (G*B, h, w) bool, patches that are hidden altogether; None for none.
        """
        layers = self._student_layers
        if self.model.encoder_sees == 'visible':
            return self.model.student_forward_visible(self.images, mask, layers, visibility)
        return self.model.student_forward(self.images, mask, 'all', layers, visibility)

    @property
    def _visibility(self) -> Tensor | None:
        """The product of the factors of patches' embeddings that objectives give, of all copies; None if none does."""
        found = [one.visibility(self) for one in self.model.objectives.values()]
        factors = [one for one in found if one is not None]
        return self.per_copy(functools.reduce(torch.mul, factors)) if factors else None

    @property
    def _student_layers(self) -> int:
        return max(one.student_layers for one in self.model.objectives.values())

    @cached_property
    def student_local(self) -> list[TokenOutput]:
        """The student's pooled tokens of the local views, one entry per group of consecutive views of the same size."""
        local = groupby(self.views[self.global_views :], key=lambda view: view.shape)
        return [self.model.student_forward(torch.cat(list(crops)), None, 'pooled') for _, crops in local]

    @property
    def student_global(self) -> Tensor:
        """The student's pooled features of all masked copies, (M*G*B, C), copy by copy, each view by view."""
        return self.seen.pooled

    @property
    def student_pooled(self) -> Tensor:
        """The student's pooled features of all masked copies and of the local views, ((M*G + V - G)*B, C)."""
        # Global views first: both draw random numbers (drop path), and the order has to be the same in every step.
        student = self.student_global
        return torch.cat([student, *(tokens.pooled for tokens in self.student_local)])

    def keeps_errors(self, objective: str) -> bool:
        """Whether an objective reads the :attr:`patch_errors` of another one."""
        return any(one.reads_errors_of == objective for one in self.model.objectives.values())

    def part(self, objective: str, name: str) -> Any:
        """A module of one of the student's objectives, for example ``part('ce', 'neck')``."""
        return getattr(self.model.objectives[objective], name)

    def teacher_part(self, objective: str, name: str) -> Any:
        """The teacher's moving average of such a module, one of :meth:`Objective.followed`."""
        return self.model.teacher.get_submodule(f'{objective}_{name}')


def _joined(draws: Sequence[DrawnMask]) -> DrawnMask:
    """The masks of several draws, one after another; of one draw its own."""
    if len(draws) == 1:
        return draws[0]
    thrown = [one.thrown for one in draws if one.thrown is not None]
    return DrawnMask(torch.cat([one.hidden for one in draws]), torch.cat(thrown) if thrown else None)


@torch.no_grad()
def panel_of(model: Pretrainer, images: Tensor) -> PanelData:
    """Attention, mask and reconstruction of normalized images (B, 3, H, W), in eval mode, without side effects."""
    was_training = model.training
    model.eval()
    step = Step(model, [images], attention=model.backbone.provides_attention, read_all=True, copies=1)
    shown, whose = step.guidance, type(model.guide).__name__
    if shown is None or shown.attention is None or isinstance(model.guide, TeacherGuide):
        shown, whose = (None if model.teacher is None else step.teacher), 'teacher'
    attention = None
    if shown is not None and shown.attention is not None:
        attention = shown.attention.mean(dim=1).view(len(images), *shown.grid)
    drawn = [(one.restore(step), one.show_target(step), one.restored_with) for one in model.objectives.values()]
    further = {title: shown for one in model.objectives.values() for title, shown in one.further_images(step).items()}
    model.train(was_training)
    restored, target, known = next((one for one in drawn if one[0] is not None), (None, None, ''))
    return PanelData(images, attention, step.mask, restored, target, whose, known, step.thrown, further)
