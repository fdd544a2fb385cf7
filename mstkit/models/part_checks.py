"""Whether the parts of a pretrainer fit each other, and which of them have to be there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from mstkit.errors import UsageError
from mstkit.models.backbones import MaskedBackbone
from mstkit.models.guides import Guide
from mstkit.models.maskers import Masker
from mstkit.models.objectives import Objective
from mstkit.registry import MODELS
from mstkit.structures import Read
from mstkit.utils.checks import check_size

# How the student's encoder takes a mask: [MASK] tokens in place of hidden patches, or the visible patches alone.
Sees = Literal['mask_token', 'visible']
_READ: tuple[Read, ...] = ('pooled', 'hidden', 'all')  # each includes those before it


def check_backbone(backbone: object, sees: Sees, method: str) -> MaskedBackbone:
    """The backbone, when it can consume a mask in the way that is wanted; otherwise a UsageError."""
    if not isinstance(backbone, MaskedBackbone):
        known = [name for name, cls in MODELS.module_dict.items() if issubclass(cls, MaskedBackbone)]
        raise UsageError(
            f'backbone {type(backbone).__name__} cannot be pre-trained with masks (it has no forward_tokens); '
            f'those that can: {", ".join(sorted(known))}'
        )
    if sees == 'visible' and not backbone.encodes_visible:
        raise UsageError(
            f"{method}: encoder_sees='visible', but {type(backbone).__name__} cannot leave hidden patches out: take "
            "encoder_sees='mask_token' (SimMIM instead of MAE), or MaskedVisionTransformer"
        )
    return backbone


def cell_of(mask_patch_size: int | None, backbone: MaskedBackbone, method: str) -> int:
    """How many patch tokens in a row are hidden or shown as one; 1 where no size in pixels is given.

    Raises:
        UsageError: a size that is no multiple of the backbone's stride.
    """
    if mask_patch_size is None:
        return 1
    size, stride = check_size(f'{method}.mask_patch_size', mask_patch_size), backbone.stride
    if size % stride:
        below, above = size - size % stride, size - size % stride + stride
        raise UsageError(
            f'{method}.mask_patch_size is {size}, but what is hidden are whole patch tokens of '
            f'{type(backbone).__name__}, {stride} px each: give {f"{below} or " if below else ""}{above}'
        )
    return size // stride


def asks_guide(masker: Masker | None) -> bool:
    """Whether a masker, in any phase of a run, needs to know what is in the images."""
    return masker is not None and any(part.needs_scores or part.needs_tokens for part in masker.parts())


def needs_teacher(objectives: Iterable[Objective], masker: Masker | None, guide: Guide | None) -> bool:
    """Whether anybody looks at a teacher: an objective, or the masker by a guide that does."""
    guided = guide is not None and guide.uses_teacher and asks_guide(masker)
    return guided or any(one.teacher_needs is not None for one in objectives)


def union_of_needs(needs: Iterable[Read | None]) -> Read | None:
    """The tokens that all who ask need together; None where nobody asks. To read visible ones is to make them all."""
    ranks = [_READ.index('all' if one == 'visible' else one) for one in needs if one is not None]
    return _READ[max(ranks)] if ranks else None


def check_objectives(objectives: Mapping[str, Objective], sees: Sees, method: str) -> None:
    """Refuses no objective at all, and one that reads tokens which the encoder does not make. Raises UsageError."""
    if not objectives:
        raise UsageError(
            f'{method} has no objective, so there is nothing to train on: give objectives=dict(NAME=dict(...))'
        )
    for name, one in objectives.items():
        if sees == 'visible' and one.student_needs not in ('pooled', 'visible'):
            raise UsageError(
                f'the objective {name!r} ({type(one).__name__}) reads tokens of hidden patches, and with '
                "encoder_sees='visible' there are none: set encoder_sees='mask_token', or leave the objective out"
            )


def check_idle_views(objectives: Mapping[str, Objective], sizes: Sequence[int], global_views: int, method: str) -> None:
    """Refuses views that no objective reads.

    Args:
        objectives: by name.
        sizes: the side of each view, in pixels.
        global_views: how many of the first are global.
        method: for the message.

    Raises:
        UsageError: with what to set in MultiCrop.
    """
    idle = len(sizes) - global_views
    if idle > 0 and not any(one.reads_local for one in objectives.values()):
        raise UsageError(
            f'{method} trains on {global_views} view{"s" if global_views > 1 else ""} of an image (model.global_views) '
            f'and would leave {idle} unread: set global_crops.count={global_views} and local_crops.count=0 of MultiCrop'
        )


def check_teacher(objectives: Mapping[str, Objective], teacher: object | None) -> None:
    """Refuses an objective that looks at a teacher which is not there. Raises UsageError."""
    asking = [name for name, objective in objectives.items() if objective.teacher_needs is not None]
    if asking and teacher is None:
        raise UsageError(f'the objective {asking[0]!r} looks at a teacher, and teacher=False: leave that out')


def check_guidance(masker: Masker | None, guide: Guide | None, backbone: MaskedBackbone) -> None:
    """Refuses a masker that needs a guide which is not there, or which cannot tell it anything. Raises UsageError.

    Args:
        masker: of the method.
        guide: None also where it would be a teacher that is not there.
        backbone: of student and teacher.
    """
    for part in [] if masker is None else masker.parts():
        if not (part.needs_scores or part.needs_tokens):
            continue
        if guide is None:
            raise UsageError(
                f'masker {type(part).__name__} needs a guide that looks at the images, and there is none: give '
                "guide='teacher' (with a teacher), or take RandomMasker or BlockMasker"
            )
        if part.needs_scores and guide.uses_teacher and not backbone.provides_attention:
            raise UsageError(
                f'masker {type(part).__name__} needs attention and backbone {type(backbone).__name__} '
                'gives none; take RandomMasker or BlockMasker, or a backbone with attention'
            )
