"""Checks that the components of a :class:`Pretrainer` match, and finds out which of them are needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from mstkit.errors import UsageError
from mstkit.models.backbones import MaskedBackbone
from mstkit.models.guides import Guide, GuidedParts, GuideRequest
from mstkit.models.maskers import Masker, MaskerSchedule
from mstkit.models.objectives import Objective, Surroundings
from mstkit.registry import MODELS
from mstkit.structures import Read
from mstkit.utils.checks import check_count, check_size

# Input of the student's encoder: all patches with [MASK] tokens in place of hidden ones, or the visible patches alone.
Sees = Literal['mask_token', 'visible']
_READ: tuple[Read, ...] = ('pooled', 'hidden', 'all')  # each includes those before it


def check_backbone(backbone: object, sees: Sees, masker: Masker | None, method: str) -> MaskedBackbone:
    """Returns the backbone if it supports the wanted masking; otherwise raises UsageError."""
    if not isinstance(backbone, MaskedBackbone):
        known = [name for name, cls in MODELS.module_dict.items() if issubclass(cls, MaskedBackbone)]
        raise UsageError(
            f'backbone {type(backbone).__name__} cannot be pre-trained with masks (it is no MaskedBackbone): '
            f'take {", ".join(sorted(known))}'
        )
    if sees == 'mask_token' or backbone.encodes_visible:
        return backbone
    name = type(backbone).__name__
    if not backbone.encodes_squares:
        raise UsageError(
            f"{method}: encoder_sees='visible', but {name} cannot encode the visible patches alone: take "
            "encoder_sees='mask_token' (SimMIM instead of MAE), or MaskedVisionTransformer"
        )
    most = None if masker is None else masker.visible_per_square
    if masker is not None and (most is None or most[1] > 1):
        raise UsageError(
            f"{method}: encoder_sees='visible', but {name} cannot encode the visible patches alone of any mask, only "
            f'where each 2x2 has one of them at most, which {type(masker).__name__} does not promise: take '
            "UniformMasker with image_prob=1, encoder_sees='mask_token' (SimMIM instead of MAE), or "
            'MaskedVisionTransformer'
        )
    return backbone


def check_throwing(masker: Masker | None, sees: Sees, method: str) -> Masker | None:
    """Returns the masker unless it throws patches where the encoder has a token in every place. Raises UsageError.

    A thrown patch would be a [MASK] token without a loss there: attended to, and as expensive as a hidden one.
    """
    if masker is not None and masker.throws and sees == 'mask_token':
        names = [type(part).__name__ for part in masker.parts() if part.throws]
        raise UsageError(
            f"{method}: masker {names[0]} throws patches, but with encoder_sees='mask_token' the encoder has a token "
            'in every place: take a masker that hides alone (MultinomialMasker), or a method that encodes the visible '
            'patches alone (MAE)'
        )
    return masker


def sees_squares(backbone: MaskedBackbone, sees: Sees) -> bool:
    """Whether the encoder gets a map of half the side, of the visible patch of each 2×2."""
    return sees == 'visible' and not backbone.encodes_visible


def has_mask_token(backbone: MaskedBackbone, sees: Sees, masker: Masker | None) -> bool:
    """Whether the student's encoder gets [MASK] embeddings: of hidden patches, or of squares without a visible one."""
    if masker is None or sees == 'mask_token':
        return masker is not None
    squares = masker.visible_per_square if sees_squares(backbone, sees) else None
    return squares is not None and squares[0] == 0


def cell_of(mask_patch_size: int | None, backbone: MaskedBackbone, sees: Sees, method: str) -> int:
    """Side, in patch tokens, of the squares that are masked as a whole; 1 without ``mask_patch_size``.

    Raises:
        UsageError: a size that is no multiple of the backbone's stride; one that is not the stride itself where the
            encoder gets the visible patch of each 2×2.
    """
    if mask_patch_size is None:
        return 1
    size, stride = check_size(f'{method}.mask_patch_size', mask_patch_size), backbone.stride
    if size % stride:
        below, above = size - size % stride, size - size % stride + stride
        raise UsageError(
            f'{method}.mask_patch_size is {size}, which is no multiple of the patch tokens of '
            f'{type(backbone).__name__}, {stride} px each: give {f"{below} or " if below else ""}{above}'
        )
    if size > stride and sees_squares(backbone, sees):
        raise UsageError(
            f'{method}.mask_patch_size is {size}, but {type(backbone).__name__} encodes the visible one of each 2x2 of '
            f'its own patch tokens, {stride} px each: leave mask_patch_size out'
        )
    return size // stride


def asks_guide(masker: Masker | None) -> bool:
    """Whether a masker, in any phase of a run, needs scores or tokens of a guide."""
    return masker is not None and any(part.needs_scores or part.needs_tokens for part in masker.parts())


def request_of(masker: Masker | None, objectives: Iterable[Objective]) -> Masker | None:
    """Who asks the guide: the masker, or where objectives read scores too, a :class:`GuideRequest` for both."""
    return GuideRequest(masker) if any(one.needs_scores for one in objectives) else masker


def needs_teacher(objectives: Iterable[Objective], masker: Masker | None, guide: Guide | None) -> bool:
    """Whether an objective, or the guide of a masker that needs one, uses the teacher."""
    guided = guide is not None and guide.uses_teacher and asks_guide(masker)
    return guided or any(one.needs_teacher for one in objectives)


def union_of_needs(needs: Iterable[Read | None]) -> Read | None:
    """The smallest set of tokens that covers all needs ('visible' counts as 'all'); None if there are none."""
    ranks = [_READ.index('all' if one == 'visible' else one) for one in needs if one is not None]
    return _READ[max(ranks)] if ranks else None


def check_objectives(objectives: Mapping[str, Objective], sees: Sees, method: str) -> None:
    """Refuses an empty list of objectives, and objectives that need tokens of hidden patches with
    ``encoder_sees='visible'``. Raises UsageError."""
    if not objectives:
        raise UsageError(
            f'{method} has no objective, so there is nothing to train on: give objectives=dict(NAME=dict(...))'
        )
    for name, one in objectives.items():
        if sees == 'visible' and one.student_needs not in ('pooled', 'visible'):
            raise UsageError(
                f'the objective {name!r} ({type(one).__name__}) needs tokens of hidden patches, but with '
                "encoder_sees='visible' there are none: set encoder_sees='mask_token', or leave the objective out"
            )


def check_copies(copies: int, masker: Masker | None, objectives: Mapping[str, Objective], method: str) -> int:
    """Returns ``masks_per_image`` if masker and objectives can have so many. Raises UsageError.

    Copies that are masked alike would cost as much as others and teach the student nothing more.
    """
    key = f'{method}.masks_per_image'
    if check_count(key, copies, 1, 1024) == 1:
        return copies
    if masker is None or not masker.varies:
        whose, way = 'there is no masker', "give one, such as dict(type='RandomMasker', ratio=0.75)"
        if masker is not None:
            fixed = next((part for part in masker.parts() if not part.varies), masker)
            whose = f'{type(fixed).__name__}({fixed.extra_repr()}) draws nothing'
            way = 'give a range as its ratio, or take one that draws, such as MultinomialMasker or AttMaskHint'
            if isinstance(masker, MaskerSchedule) and fixed is masker:
                whose, way = 'in one of the phases of MaskerSchedule nothing is hidden', 'give it a masker'
        raise UsageError(
            f'{key} is {copies}, but {whose}, so all masks of an image would be equal: {way}, or leave it 1'
        )
    for name, one in objectives.items():
        if not one.several_masks:
            raise UsageError(
                f'{key} is {copies}, but the objective {name!r} ({type(one).__name__}) is defined for one mask of an '
                'image: leave it 1, or leave the objective out'
            )
    return copies


def check_view_numbers(
    objectives: Mapping[str, Objective], sizes: Sequence[int], global_views: int, method: str
) -> None:
    """Refuses views that do not suit the objectives, in number or order, and views that no objective uses.

    Args:
        objectives: by name.
        sizes: the side of each view, in pixels: of the global ones, of the target view if an objective needs it, of
            the local ones.
        global_views: number of global views.
        method: name of the method, for the message.

    Raises:
        UsageError: with what to set in MultiCrop.
    """
    targets = int(any(one.target_needs is not None for one in objectives.values()))
    whole = global_views + targets
    if targets and list(sizes[:whole]) != [sizes[0]] * whole:
        raise UsageError(
            f'{method} needs {whole} views of one size before any local ones, {global_views} for its student '
            f'(model.global_views) and one for its teacher alone, but the pipeline makes views of '
            f'{", ".join(map(str, sizes))} px: set global_crops.count={whole} of MultiCrop'
        )
    seen = [*sizes[:global_views], *sizes[whole:]]
    for objective in objectives.values():
        objective.check_view_count(seen, global_views)
    idle = len(sizes) - whole
    if idle > 0 and not any(one.reads_local for one in objectives.values()):
        raise UsageError(
            f'{method} trains on {whole} view{"s" if whole > 1 else ""} of an image (model.global_views'
            f'{" and a target view" if targets else ""}) and would not use {idle} more: set '
            f'global_crops.count={whole} and local_crops.count=0 of MultiCrop'
        )


def check_teacher(objectives: Mapping[str, Objective], teacher: object | None) -> None:
    """Refuses an objective that needs a teacher if there is none. Raises UsageError."""
    asking = [name for name, objective in objectives.items() if objective.needs_teacher]
    if asking and teacher is None:
        raise UsageError(f'the objective {asking[0]!r} needs a teacher, but teacher=False: leave that out')


def default_score(objectives: Mapping[str, Objective]) -> str:
    """'class_token' if an objective trains the pooled token by itself, else 'received'.

    A class token that only takes part in the encoder's attention, as in MAE, is not trained directly, and in the last
    block its query gets no gradient at all. Nor does everything that reads it teach it what an image shows
    (``teaches_pooled`` of :class:`Objective`).
    """
    trained = (one.student_needs == 'pooled' and one.teaches_pooled for one in objectives.values())
    return 'class_token' if any(trained) else 'received'


def settle_guide(guide: Guide | None, teacher: object | None, surroundings: Surroundings) -> Guide | None:
    """Prepares the guide for its method; None if it is a teacher that does not exist, or if no masker needs it.

    Raises:
        UsageError: a masker whose guide is missing or cannot give what it needs.
    """
    if guide is not None and guide.uses_teacher and teacher is None:
        guide = None
    masker, backbone = surroundings.masker, surroundings.backbone
    if masker is None or not asks_guide(masker):
        return guide if guide is not None and guide.uses_teacher else None
    if guide is not None:
        score = default_score(surroundings.objectives)
        guide.prepare(GuidedParts(backbone, masker, score, surroundings.normalization, surroundings.objectives))
    check_guidance(masker, guide, backbone)
    return guide


def check_guidance(masker: Masker, guide: Guide | None, backbone: MaskedBackbone) -> None:
    """Refuses a masker whose guide is missing or has no attention. Raises UsageError.

    Args:
        masker: the method's.
        guide: None also if it would be a teacher that does not exist.
        backbone: of student and teacher.
    """
    for part in masker.parts():
        if not (part.needs_scores or part.needs_tokens):
            continue
        if guide is None and isinstance(part, GuideRequest):
            raise UsageError(
                "an objective with a weighting needs scores of a guide, but there is none: give guide='teacher' (with "
                "a teacher), guide='ema' or a frozen guide, or leave weighting out"
            )
        if guide is None:
            raise UsageError(
                f'masker {type(part).__name__} needs a guide, but there is none: give '
                "guide='teacher' (with a teacher) or guide='ema', or take RandomMasker or BlockMasker"
            )
        if part.needs_tokens and not guide.gives_tokens:
            raise UsageError(
                f'masker {type(part).__name__} needs patch tokens, and {type(guide).__name__} keeps scores alone: give '
                "guide='ema'"
            )
        if not (part.needs_scores and guide.reads_backbone):
            continue
        if guide.score not in backbone.attention_scores:
            raise UsageError(
                f'{type(guide).__name__}.score is {guide.score!r}, and backbone {type(backbone).__name__} gives '
                f'{", ".join(map(repr, backbone.attention_scores))}: take one of these'
            )
        if not backbone.provides_attention:
            raise UsageError(
                f'masker {type(part).__name__} needs attention, but backbone {type(backbone).__name__} '
                'provides none: take RandomMasker or BlockMasker, or a backbone with attention'
            )
