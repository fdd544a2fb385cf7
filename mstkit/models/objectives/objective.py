"""Base class of objectives: one loss of a method, with its projection, decoder, target and head."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.models.backbones import MaskedBackbone
from mstkit.models.decoders import TokenDecoder, build_decoder
from mstkit.models.maskers import Masker
from mstkit.registry import MODELS
from mstkit.structures import Progress, Read, TokenOutput, VisibleOutput
from mstkit.utils.checks import check_number, check_text

if TYPE_CHECKING:  # for annotations only: importing it would be circular
    from mstkit.models.step import Step


class Surroundings(NamedTuple):
    """The parts of a method that an objective is built with.

    Attributes:
        backbone: the student's; sizes that a config leaves out are taken from it.
        masker: the method's masker, or None.
        objectives: objectives that were built before, by name; an objective may share a module of one of them.
        method: the name of the method, for messages.
        encoder_sees: input of the student's encoder for a masked image, see :class:`Pretrainer`.
        normalization: mean and standard deviation of the channels on the scale 0..255, (3,) or (1,) both, with which
            the images were normalized; None if they were not.
    """

    backbone: MaskedBackbone
    masker: Masker | None
    objectives: Mapping[str, Objective]
    method: str
    encoder_sees: Literal['mask_token', 'visible'] = 'mask_token'
    normalization: tuple[Tensor, Tensor] | None = None


class Objective(nn.Module):
    """One loss of a :class:`Pretrainer`, with the modules that only this loss needs (projection, decoder, head …).

    A subclass declares which tokens it needs, builds its modules in ``__init__`` and implements :meth:`forward`. What
    no objective needs is not computed.

    Args:
        surroundings: filled in by the pretrainer.
        weight: weight of the loss in the sum.

    Attributes:
        name: its key in ``Pretrainer.objectives``; the loss is logged as ``loss_NAME``.
        student_needs: the student's tokens of the global views that it uses: 'pooled'; 'hidden', pooled and hidden
            patches; 'visible', pooled and visible patches, from ``step.visible``; 'all'. With
            ``encoder_sees='visible'`` only 'pooled' and 'visible' exist, and other objectives are refused.
        teaches_pooled: whether an objective that needs 'pooled' teaches that token what an image shows, so that its
            attention tells something (see ``score`` of :class:`Guide`).
        student_layers: how many of the outputs of the student's last blocks it uses (``layers`` and ``class_tokens`` of
            ``step.student`` or ``step.visible``).
        teacher_needs: the teacher's tokens that it uses, likewise; None if it does not use the teacher.
        target_needs: the teacher's tokens of the target view that it uses (``step.target``), likewise; None if it does
            not use it. The target view is the one after the global views; the student does not see it.
        teacher_layers: how many of the outputs of the teacher's last blocks it uses (``step.teacher.layers``).
        target_layers: likewise of the target view (``step.target.layers``).
        reads_local: whether it uses the local views.
        prototypes: K of the logits by which views are compared; None if there are no such logits.
        gives_patch_errors: whether it leaves the loss of each hidden patch in ``step.patch_errors``, if an objective
            after it reads them.
        needs_scores: whether it reads ``step.importance``, the guide's scores, whatever the masker is.
        reads_errors_of: the name of the objective whose ``step.patch_errors`` it reads; None for none.
        comes_last: whether it is computed after all others, since it follows a gradient back at once: sharded weights
            are let go of by that, and gathered again in the backward pass alone.
        lr_mult: the learning rate of its parameters, as a multiple of the model's.
        several_masks: whether it takes a step in which the student sees each global view under several masks
            (``masks_per_image`` of :class:`Pretrainer`). What it reads of the student and the masks then has M times
            the rows of what it reads of the images and the teacher (:class:`Step` says which is which), and its loss is
            the mean over the copies. An objective that does not say so is refused there.
        statistics: detached scalars of the last step, for the log.
    """

    name: str = ''
    student_needs: Read = 'pooled'
    teaches_pooled: bool = True
    student_layers: int = 0
    teacher_needs: Read | None = None
    target_needs: Read | None = None
    teacher_layers: int = 0
    target_layers: int = 0
    reads_local: bool = False
    prototypes: int | None = None
    gives_patch_errors: bool = False
    needs_scores: bool = False
    reads_errors_of: str | None = None
    comes_last: bool = False
    lr_mult: float = 1.0
    several_masks: ClassVar[bool] = False

    def __init__(self, surroundings: Surroundings, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = check_number(f'weight of {type(self).__name__}', weight, 0, 1e6)
        self.statistics: dict[str, Tensor] = {}

    @property
    def needs_teacher(self) -> bool:
        """Whether it uses the teacher, of whichever views."""
        return self.teacher_needs is not None or self.target_needs is not None

    @abstractmethod
    def forward(self, step: Step) -> Tensor:
        """Computes the loss of a step, a scalar (mean over the images), and fills :attr:`statistics`."""

    def visibility(self, step: Step) -> Tensor | None:
        """A factor of the embedding of each patch, (G*B, h, w), in the student's pass of the masked global views.

        See :meth:`MaskedBackbone.forward_visible`. Its gradient tells what the losses gain by showing a patch; None,
        the default, is for objectives that do not ask.
        """
        return None

    def errors_of(self, step: Step, seen: TokenOutput | VisibleOutput) -> Tensor:
        """The loss of every patch, (G*B, L) float32 with gradient, by another pass of the student.

        Every objective with ``gives_patch_errors`` has it. Nothing that is kept between steps changes.

        Args:
            step: the step, for targets.
            seen: the student's tokens of the global views, all of them, see :meth:`Step.seen_at`.
        """
        raise NotImplementedError(f'{type(self).__name__} does not implement errors_of()')

    def followed(self) -> dict[str, nn.Module]:
        """Modules of which the teacher keeps a moving average, by attribute name: projections, but no predictors."""
        return {}

    def shared_projection(self) -> nn.Module | None:
        """The projection to logits, its ``neck``, that a later objective may take for its own; None for none."""
        return None

    def set_progress(self, progress: Progress) -> None:
        """Updates schedules for the coming iteration."""

    def restore(self, step: Step) -> Tensor | None:
        """The student's reconstruction of a step's images, for a panel: (B, 3, H, W), normalized, or None."""
        return None

    @property
    def restored_with(self) -> str:
        """What :meth:`restore` takes from the image itself, in two or three words for a panel; empty for nothing."""
        return ''

    def show_target(self, step: Step) -> Tensor | None:
        """The target of :meth:`restore`, (B, 3, H, W), if it is not the image itself; else None."""
        return None

    def further_images(self, step: Step) -> dict[str, Tensor]:
        """More columns of a panel by title: images (B, 3, H, W), normalized, of the step's global views."""
        return {}

    def check_view_count(self, sizes: Sequence[int], global_views: int) -> None:
        """Refuses a number or order of views (sides in pixels) that it cannot use. Raises UsageError."""

    def check_views(self, global_size: int, local_size: int | None) -> None:
        """Refuses view sizes, in pixels, that it cannot use. Raises UsageError."""

    def check_batch(self, images: int) -> None:
        """Refuses a global batch size (images per iteration over all ranks). Raises UsageError."""


def decoder_for(decoder: Mapping[str, Any], surroundings: Surroundings, out_channels: int, **more: Any) -> TokenDecoder:
    """Builds a decoder of the student's tokens; of its sizes a config gives those that are to differ.

    Args:
        decoder: the config.
        surroundings: of the objective.
        out_channels: values per patch.
        more: defaults of further arguments.

    Raises:
        UsageError: a component that is no :class:`TokenDecoder`, or one that reads a block which the
            backbone does not have.
    """
    built = build_decoder(
        dict(decoder),
        in_channels=surroundings.backbone.feature_dims,
        out_channels=out_channels,
        class_token=surroundings.backbone.num_extra_tokens > 0,
        visible_only=surroundings.encoder_sees == 'visible',
        **more,
    )
    if built.attends_to is not None:
        name = f'{type(built).__name__}.attends_to'
        built.student_layers = surroundings.backbone.blocks_back_to(built.attends_to, name)
    return built


def source_of_errors(owner: str, of: str | None, before: Mapping[str, Objective]) -> str:
    """The name of the objective whose losses of patches another one reads.

    Args:
        owner: the objective that reads them.
        of: the name that its config gives; None for the first one.
        before: the objectives before it, of which some have such losses (``gives_patch_errors``).

    Raises:
        UsageError: there is none, or none of that name.
    """
    known = [name for name, one in before.items() if one.gives_patch_errors]
    asked = None if of is None else check_text(f'{owner}.of', of)
    if not known or (asked is not None and asked not in known):
        missing = 'no objective' if asked is None else f'no objective {asked!r}'
        there = ', '.join(map(repr, known)) or 'none'
        raise UsageError(
            f'{owner}.of: there is {missing} with a loss of each patch before this one (such as MaskedPrediction; '
            f'there is {there}): name one, or put it first'
        )
    return asked or known[0]


def on_grid(errors: Tensor, places: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Errors (M,) of patches, detached, at their places (M,) among B * L patches: (B, L) of ``shape``, else zeros."""
    batch, length = shape
    spread = errors.new_zeros(batch * length, dtype=torch.float32)
    return spread.index_copy(0, places, errors.detach().float()).view(batch, length)


def build_objectives(configs: Mapping[str, dict[str, Any] | None], surroundings: Surroundings) -> nn.ModuleDict:
    """Builds objectives in order, passing each the ones built before it; a config of None is left out."""
    built: dict[str, Any] = {}
    for name, config in configs.items():
        if config is None:
            continue
        # A plain dict: mmengine's ConfigDict would convert the surroundings as if they were part of the config.
        plain = dict(config) if isinstance(config, Mapping) else config
        objective = MODELS.build(plain, default_args=dict(surroundings=surroundings._replace(objectives=built)))
        objective.name = name
        built[name] = objective
    return nn.ModuleDict(built)
