"""The loss that the teacher expects of each patch as its score (hard patches mining)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mstkit.models.guides.guide import Guide, GuidedParts, objective_of_kind
from mstkit.models.maskers import Masker
from mstkit.models.objectives import LossPrediction
from mstkit.registry import MODELS
from mstkit.structures import TokenOutput
from mstkit.utils.checks import check_text
from mstkit.utils.undisturbed import evaluation_mode

if TYPE_CHECKING:  # for annotations only: importing it would be circular
    from mstkit.models.pretrainer import Pretrainer
    from mstkit.models.step import Step


@MODELS.register_module()
class PredictedLossGuide(Guide):
    """Ranks patches by the loss that the method's teacher predicts for them (HPM, Wang et al., CVPR 2023, 2304.05919).

    A :class:`LossPrediction` trains the predictor with the student. The teacher, a moving average of both, sees the
    whole image; its predictor gives one number z per patch, and the scores are exp(z) / Σ exp(z), so that they are
    positive and in the order of z. By the loss that z is trained with, σ(z_i − z_j) is the probability that patch i is
    the harder one, so a masker that draws in proportion to the scores draws in proportion to these odds.

    Args:
        objective: the key of the :class:`LossPrediction`; None for the only one.

    Raises:
        UsageError: no such objective.
    """

    uses_teacher = True
    reads_backbone = False
    reads_objective = True
    from_tokens = True

    def __init__(self, objective: str | None = None) -> None:
        super().__init__()
        self.objective = None if objective is None else check_text('PredictedLossGuide.objective', objective)

    def prepare(self, parts: GuidedParts) -> None:
        """See :meth:`Guide.prepare`; finds the objective."""
        super().prepare(parts)
        does = 'predict the loss of patches'
        self.objective = objective_of_kind(LossPrediction, self.objective, parts, self, does, 'rank')

    def forward(self, step: Step, masker: Masker) -> TokenOutput:
        """Of the one pass of the teacher that the objectives read too."""
        return self._scored(step.model, step.teacher) if masker.needs_scores else step.teacher

    @torch.no_grad()
    def encode(self, model: Pretrainer, images: Tensor, masker: Masker) -> TokenOutput:
        """See :meth:`Guide.encode`."""
        backbone = model.teacher.backbone
        with evaluation_mode(backbone):
            seen = backbone.forward_tokens(images)
        return self._scored(model, seen) if masker.needs_scores else seen

    @torch.no_grad()
    def _scored(self, model: Pretrainer, seen: TokenOutput) -> TokenOutput:
        """The teacher's tokens with the scores (B, 1, L) in place of its attention."""
        predictor = model.teacher.get_submodule(f'{self.objective}_predictor')
        predicted = predictor(seen).squeeze(-1).float()  # (B, L)
        return seen._replace(attention=predicted.softmax(dim=-1)[:, None])

    def extra_repr(self) -> str:
        return f'objective={self.objective!r}'
