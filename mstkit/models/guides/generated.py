"""Masks that a generator makes of another guide's attention, as scores (AutoMAE)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.models.guides.cached import CachedGuide
from mstkit.models.guides.guide import Guide, GuidedParts, GuideOnAnother, build_guide, objective_of_kind
from mstkit.models.maskers import Masker
from mstkit.models.objectives import MaskGeneration
from mstkit.registry import MODELS
from mstkit.structures import TokenOutput
from mstkit.utils.checks import check_text

if TYPE_CHECKING:  # for annotations only: importing it would be circular
    from mstkit.models.pretrainer import Pretrainer
    from mstkit.models.step import Step


@MODELS.register_module()
class GeneratedMaskGuide(GuideOnAnother):
    """Ranks patches by a mask that a generator makes of another guide's attention (AutoMAE, Chen et al., PRCV 2023,
    arXiv 2303.06583).

    A :class:`MaskGeneration` owns the generator and trains it with the student. The score of a patch is y, a random
    sample of a Gumbel-softmax over the patches of the image, which sums to 1; outside of a training, the softmax
    itself.

    Args:
        source: the guide whose attention the generator gets. AutoMAE's is frozen, a ViT that MAE has pre-trained:
            ``dict(type='frozen', source='FILE.pth')``. 'ema', the default, needs no such file.
        objective: the key of the :class:`MaskGeneration`; None for the only one.

    Raises:
        UsageError: no such objective; a source that keeps scores of whole images.
    """

    reads_objective = True

    def __init__(self, source: dict | Guide | str = 'ema', objective: str | None = None) -> None:
        super().__init__()
        built = build_guide(source, 'GeneratedMaskGuide.source')
        if built is None or isinstance(built, (CachedGuide, GeneratedMaskGuide)):
            raise UsageError(
                f"GeneratedMaskGuide.source is {source!r}, but it has to give each head's attention of each view: give "
                "'ema', 'teacher', 'student' or a frozen guide"
            )
        self.source = built
        self.uses_teacher, self.reads_backbone = built.uses_teacher, built.reads_backbone
        self.objective = None if objective is None else check_text('GeneratedMaskGuide.objective', objective)

    @property
    def given_score(self) -> str | None:
        """See :attr:`Guide.given_score`: that of the source."""
        return self.source.given_score

    def prepare(self, parts: GuidedParts) -> None:
        """See :meth:`Guide.prepare`; prepares the source and finds the objective."""
        self.source.prepare(parts)
        self.score = self.source.score
        does = 'generate masks'
        self.objective = objective_of_kind(MaskGeneration, self.objective, parts, self, does, 'generate')
        parts.objectives[self.objective].asked = True  # type: ignore[assignment]

    def forward(self, step: Step, masker: Masker) -> TokenOutput:
        """The source's tokens of the views, with a mask of the generator in place of its attention."""
        seen = self.source(step, masker)
        return self._generated(step.model, seen) if masker.needs_scores else seen

    def encode(self, model: Pretrainer, images: Tensor, masker: Masker) -> TokenOutput:
        """See :meth:`Guide.encode`."""
        seen = self.source.encode(model, images, masker)
        with torch.no_grad():
            return self._generated(model, seen) if masker.needs_scores else seen

    def _generated(self, model: Pretrainer, seen: TokenOutput) -> TokenOutput:
        assert seen.attention is not None
        shares = model.objectives[self.objective].shares(seen.attention.detach(), seen.grid)
        return seen._replace(attention=shares[:, None])

    @property
    def inner(self) -> Guide:
        """See :attr:`GuideOnAnother.inner`."""
        return self.source

    def extra_repr(self) -> str:
        return f'objective={self.objective!r}'
