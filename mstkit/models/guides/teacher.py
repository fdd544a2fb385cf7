"""The method's own teacher as the guide, as in MST and AttMask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from mstkit.models.guides.guide import Guide
from mstkit.models.maskers import Masker
from mstkit.registry import MODELS
from mstkit.structures import TokenOutput

if TYPE_CHECKING:  # for annotations only: importing it would be circular
    from mstkit.models.pretrainer import Pretrainer
    from mstkit.models.step import Step


@MODELS.register_module()
class TeacherGuide(Guide):
    """The method's own teacher as guide (MST section 3.2, AttMask section 3.2).

    Args:
        score: see :class:`Guide`.
    """

    uses_teacher = True

    def forward(self, step: Step, masker: Masker) -> TokenOutput:
        """The one pass of the teacher that the objectives read too."""
        return step.teacher

    def encode(self, model: Pretrainer, images: Tensor, masker: Masker) -> TokenOutput:
        """See :meth:`Guide.encode`."""
        return self.read(model.teacher.backbone, images, masker)
