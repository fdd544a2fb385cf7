"""The encoder that is trained as its own guide."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from mstkit.models.guides.guide import Guide
from mstkit.models.maskers import Masker
from mstkit.registry import MODELS
from mstkit.structures import TokenOutput

if TYPE_CHECKING:  # for annotations only: importing it would be circular
    from mstkit.models.pretrainer import Pretrainer


@MODELS.register_module()
class StudentGuide(Guide):
    """The student's encoder as it is at each step, in evaluation mode (AMT's scores come from the model itself).

    Nothing is kept. A pass over the whole images is added to every step.

    Args:
        score: see :class:`Guide`.
    """

    def encode(self, model: Pretrainer, images: Tensor, masker: Masker) -> TokenOutput:
        """See :meth:`Guide.encode`."""
        return self.read(model.backbone, images, masker)
