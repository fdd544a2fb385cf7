"""MST's objective: reconstruction of the whole image from the student's tokens of the masked image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn import functional as F

from mstkit.models.objectives.objective import Objective, Surroundings
from mstkit.registry import MODELS
from mstkit.structures import TokenOutput

if TYPE_CHECKING:  # for annotations only: importing it would be circular
    from mstkit.models.step import Step


@MODELS.register_module()
class ImageRestoration(Objective):
    """Mean absolute error over all pixels of the global views, hidden or not (MST eq. 9).

    Args:
        decoder: maps patch tokens (B, C, h, w) to images, for example ``dict(type='CNNImageDecoder')``; the teacher has
            none. ``in_channels`` and ``stride`` default to the backbone's.
        weight: weight of the loss in the sum.
        surroundings: see :class:`Objective`.
    """

    student_needs = 'all'
    several_masks = True
    decoder: Any

    def __init__(self, decoder: dict, surroundings: Surroundings, weight: float = 1.0) -> None:
        super().__init__(surroundings, weight)
        sizes = dict(in_channels=surroundings.backbone.feature_dims, stride=surroundings.backbone.stride)
        self.decoder = MODELS.build(decoder, default_args=sizes)

    def forward(self, step: Step) -> Tensor:
        """See :meth:`Objective.forward`."""
        restored = self.decoder(as_map(step.student), step.copies * step.global_views)
        return F.l1_loss(restored.float(), step.student_images.float())

    def restore(self, step: Step) -> Tensor:
        """See :meth:`Objective.restore`."""
        return self.decoder(as_map(step.student), 1)


def as_map(tokens: TokenOutput) -> Tensor:
    """Patch tokens (B, L, C) -> (B, h, w, C) -> feature map (B, C, h, w), in channels-last memory format."""
    return tokens.patch_tokens.unflatten(1, tokens.grid).permute(0, 3, 1, 2)
