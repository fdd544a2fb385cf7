"""DINO: emerging properties in self-supervised vision transformers (Caron et al., ICCV 2021, arXiv 2104.14294)."""

from __future__ import annotations

from mstkit.models.algorithms.self_distillation import SelfDistillation
from mstkit.registry import MODELS


@MODELS.register_module()
class DINO(SelfDistillation):
    """Self-distillation by the cross-view loss alone; see :class:`SelfDistillation`.

    DINO itself hides nothing. With a masker (AttMask in DINO) the student's global views are hidden in part; the loss
    stays.
    """
