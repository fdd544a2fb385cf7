"""What a guide is: where the scores come from by which a masker ranks patches."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from torch import nn

from mstkit.errors import UsageError
from mstkit.models.maskers import Masker
from mstkit.registry import MODELS
from mstkit.structures import TokenOutput

if TYPE_CHECKING:  # for the annotation: a step asks guides, not the other way round
    from mstkit.models.step import Step

_NAMES = {'teacher': 'TeacherGuide'}


class Guide(nn.Module):
    """Looks at the whole global views of a step, for a masker that needs to know what is in them.

    It is asked only in steps whose masker needs scores or tokens; a random mask costs nothing.

    Attributes:
        uses_teacher: whether it is the method's own teacher that looks; attention is then computed in the one pass
            that the teacher makes anyway.
    """

    uses_teacher: ClassVar[bool] = False

    @abstractmethod
    def forward(self, step: Step, masker: Masker) -> TokenOutput:
        """What is seen in ``step.images``: attention of the block ``masker.layer`` if it ``needs_scores``, patch tokens
        if it ``needs_tokens``; without gradient."""


def build_guide(guide: dict | Guide | str | None) -> Guide | None:
    """Builds what a config has in the place of a guide: a name, a component, or None.

    Raises:
        UsageError: a name that is none, or a component that is no guide.
    """
    if guide is None or (isinstance(guide, str) and guide.lower() == 'none'):
        return None
    if isinstance(guide, str):
        if guide not in _NAMES:
            raise UsageError(
                f'model.guide is {guide!r}; it is {", ".join(_NAMES)}, none, or a dict(type=...) of a guide'
            )
        guide = dict(type=_NAMES[guide])
    built = MODELS.build(guide) if isinstance(guide, dict) else guide
    if not isinstance(built, Guide):
        raise UsageError(f'{guide!r} is not a guide')
    return built
