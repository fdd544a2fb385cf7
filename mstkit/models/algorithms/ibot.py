"""iBOT: image BERT pre-training with online tokenizer (Zhou et al., ICLR 2022, arXiv 2111.07832)."""

from __future__ import annotations

from mstkit.models.algorithms.self_distillation import SelfDistillation
from mstkit.models.maskers import Masker
from mstkit.registry import MODELS


@MODELS.register_module()
class IBOT(SelfDistillation):
    """DINO's loss plus the same distillation of each hidden patch.

    AttMask in iBOT is this with an AttMask masker. Projection of pooled features and patches is shared, as iBOT
    recommends; ``patch_neck`` separates them (wholly: iBOT's own separate variant shares all layers but the last).

    Args:
        masker: what hides the student's patches; the method is nothing without.
        patch_head: :class:`IBOTHead`.
        **kwargs: see :class:`SelfDistillation`.
    """

    def __init__(self, *, masker: dict | Masker | str | None, patch_head: dict | None, **kwargs) -> None:
        super().__init__(masker=masker, patch_head=patch_head, **kwargs)
