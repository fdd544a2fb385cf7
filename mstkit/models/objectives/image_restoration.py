"""MST's objective: the whole image is restored from what the student saw of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn import functional as F

from mstkit.models.objectives.base import Objective, Surroundings
from mstkit.registry import MODELS
from mstkit.structures import TokenOutput

if TYPE_CHECKING:  # for the annotation: a step asks objectives, not the other way round
    from mstkit.models.step import Step


@MODELS.register_module()
class ImageRestoration(Objective):
    """Mean absolute error over all pixels of the global views, hidden or not (MST eq. 9).

    Args:
        decoder: patch tokens as maps (B, C, h, w) to images, for example ``dict(type='CNNImageDecoder')``; the
            student's alone. Its ``in_channels`` and ``stride`` follow the backbone's where they are left out.
        weight: what the loss is multiplied by.
        surroundings: see :class:`Objective`.
    """

    student_needs = 'all'
    decoder: Any

    def __init__(self, decoder: dict, surroundings: Surroundings, weight: float = 1.0) -> None:
        super().__init__(surroundings, weight)
        sizes = dict(in_channels=surroundings.backbone.feature_dims, stride=surroundings.backbone.stride)
        self.decoder = MODELS.build(decoder, default_args=sizes)

    def forward(self, step: Step) -> Tensor:
        """See :meth:`Objective.forward`."""
        restored = self.decoder(as_map(step.student), step.global_views)
        return F.l1_loss(restored.float(), step.images.float())

    def restore(self, step: Step) -> Tensor:
        """See :meth:`Objective.restore`."""
        return self.decoder(as_map(step.student), 1)


def as_map(tokens: TokenOutput) -> Tensor:
    """Patch tokens (B, L, C) as a map (B, C, h, w), channels last."""
    return tokens.patch_tokens.unflatten(1, tokens.grid).permute(0, 3, 1, 2)
