"""What a masking network has learned to hide as the score of patches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mstkit.models.guides.guide import Guide, GuidedParts, objective_of_kind
from mstkit.models.maskers import Masker
from mstkit.models.objectives import CurriculumMasking
from mstkit.registry import MODELS
from mstkit.structures import TokenOutput
from mstkit.utils.checks import check_text
from mstkit.utils.undisturbed import evaluation_mode

if TYPE_CHECKING:  # for annotations only: importing it would be circular
    from mstkit.models.pretrainer import Pretrainer
    from mstkit.models.step import Step


@MODELS.register_module()
class LearnedMaskGuide(Guide):
    """Scores patches by the masking network of a :class:`CurriculumMasking` (CL-MAE, Madan et al., WACV 2024).

    The score is 1 − p, p the visibility that the network gives the patch. So :class:`AttMaskHigh` with a ratio and
    ``image_prob=1`` shows the patches of the largest p, as CL-MAE does, and a masker that draws, draws in proportion.

    Args:
        objective: the key of the :class:`CurriculumMasking`; None for the only one.

    Raises:
        UsageError: no such objective.
    """

    reads_backbone = False
    reads_objective = True

    def __init__(self, objective: str | None = None) -> None:
        super().__init__()
        self.objective = None if objective is None else check_text('LearnedMaskGuide.objective', objective)

    def prepare(self, parts: GuidedParts) -> None:
        """See :meth:`Guide.prepare`; finds the objective."""
        super().prepare(parts)
        self.objective = objective_of_kind(CurriculumMasking, self.objective, parts, self, 'learn what to hide', 'hide')

    def forward(self, step: Step, masker: Masker) -> TokenOutput:
        """By the visibilities that the objective is trained with."""
        p = self._network(step.model).visibilities(step).detach() if masker.needs_scores else None
        return self._scored(step.model, step.images, masker, p)

    @torch.no_grad()
    def encode(self, model: Pretrainer, images: Tensor, masker: Masker) -> TokenOutput:
        """See :meth:`Guide.encode`."""
        p = self._network(model).visibilities_of(model.backbone, images) if masker.needs_scores else None
        return self._scored(model, images, masker, p)

    def _network(self, model: Pretrainer) -> Any:
        return model.objectives[self.objective]

    @torch.no_grad()
    def _scored(self, model: Pretrainer, images: Tensor, masker: Masker, p: Tensor | None) -> TokenOutput:
        """Scores (B, 1, L) of visibilities (B, L), and the student's tokens if the masker needs tokens."""
        scores = None if p is None else (1 - p)[:, None]
        if masker.needs_tokens:
            with evaluation_mode(model.backbone):  # type: ignore[arg-type]
                return model.backbone.forward_tokens(images)._replace(attention=scores)
        height, width = model.backbone.grid_of(images)
        nothing = images.new_zeros(len(images), height * width, 0)
        return TokenOutput(nothing, nothing[:, 0], (height, width), scores)

    def extra_repr(self) -> str:
        return f'objective={self.objective!r}'
