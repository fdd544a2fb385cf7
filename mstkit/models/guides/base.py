"""Base class of guides: networks whose attention or tokens tell a masker which patches to hide."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from torch import nn

from mstkit.errors import UsageError
from mstkit.models.maskers import Masker
from mstkit.registry import MODELS
from mstkit.structures import TokenOutput

if TYPE_CHECKING:  # for annotations only: importing it would be circular
    from mstkit.models.step import Step

_NAMES = {'teacher': 'TeacherGuide'}


class Guide(nn.Module):
    """Encodes the unmasked global views of a step, for a masker that needs attention scores or patch tokens.

    Runs only if the masker needs scores or tokens; a random mask costs nothing.

    Attributes:
        uses_teacher: whether the guide is the method's own teacher, whose attention is then computed in the forward
            pass that the teacher does anyway.
    """

    uses_teacher: ClassVar[bool] = False

    @abstractmethod
    def forward(self, step: Step, masker: Masker) -> TokenOutput:
        """Encodes ``step.images`` without gradient: attention of block ``masker.layer`` if the masker
        ``needs_scores``, patch tokens if it ``needs_tokens``."""


def build_guide(guide: dict | Guide | str | None) -> Guide | None:
    """Builds a guide from a name ('teacher'), a config or a component; None or 'none' gives None.

    Raises:
        UsageError: an unknown name, or a component that is no guide.
    """
    if guide is None or (isinstance(guide, str) and guide.lower() == 'none'):
        return None
    if isinstance(guide, str):
        if guide not in _NAMES:
            raise UsageError(
                f'model.guide is {guide!r}: give {", ".join(map(repr, _NAMES))}, none, or a dict(type=...) of a guide'
            )
        guide = dict(type=_NAMES[guide])
    built = MODELS.build(guide) if isinstance(guide, dict) else guide
    if not isinstance(built, Guide):
        raise UsageError(f'{guide!r} is not a guide')
    return built
