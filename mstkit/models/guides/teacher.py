"""The method's own teacher as the guide, as in MST and AttMask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mstkit.models.guides.base import Guide
from mstkit.models.maskers import Masker
from mstkit.registry import MODELS
from mstkit.structures import TokenOutput

if TYPE_CHECKING:  # for the annotation: a step asks guides, not the other way round
    from mstkit.models.step import Step


@MODELS.register_module()
class TeacherGuide(Guide):
    """What the moving average of the student attends to (MST section 3.2, AttMask section 3.2)."""

    uses_teacher = True

    def forward(self, step: Step, masker: Masker) -> TokenOutput:
        """See :meth:`Guide.forward`."""
        return step.teacher
