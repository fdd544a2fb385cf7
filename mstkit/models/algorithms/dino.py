"""DINO: emerging properties in self-supervised vision transformers (Caron et al., ICCV 2021, arXiv 2104.14294)."""

from __future__ import annotations

from collections.abc import Mapping

from mstkit.models.algorithms.flat_arguments import FLAT_KEYS, distillation_objectives
from mstkit.models.guides import Guide
from mstkit.models.maskers import Masker
from mstkit.models.pretrainer import Pretrainer
from mstkit.registry import MODELS


@MODELS.register_module()
class DINO(Pretrainer):
    """Self-distillation: the student predicts, from each view, the teacher's assignment of the other views.

    The teacher encodes the global views, the student global and local ones. DINO itself masks nothing. With a masker
    (AttMask in DINO) the student's global views are masked; the loss is the same.

    Args:
        backbone: a :class:`MaskedBackbone`.
        neck: projects pooled features to logits; default :class:`DINONeck`.
        head: the loss on those logits, with center and temperatures; default :class:`DINOHead`.
        teacher: arguments of the :class:`MomentumTeacher`.
        masker: decides which of the student's patches are hidden; None or 'none' hides nothing.
        guide: where the masker's scores come from, see :class:`Pretrainer`.
        loss_weight_ce: weight of the loss, which is logged as ``loss_ce``.
        objectives: further objectives by name, see :class:`Pretrainer`.
        global_views: how many of the first views are global.
        data_preprocessor: normalization, on the device.
        mask_token_std: initialization of the [MASK] embedding, see :class:`Pretrainer`; zeros, as in iBOT's code.
        mask_token_decay: whether weight decay applies to it, as in iBOT's code.
        masks_per_image: how many masks each view gets for one pass of the teacher, see :class:`Pretrainer`.
    """

    FLAT_KEYS = FLAT_KEYS

    def __init__(
        self,
        backbone: dict,
        neck: dict | None = None,
        head: dict | None = None,
        teacher: dict | None = None,
        masker: dict | Masker | str | None = None,
        guide: dict | Guide | str | None = 'teacher',
        loss_weight_ce: float = 1.0,
        objectives: Mapping[str, dict | None] | None = None,
        global_views: int = 2,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        mask_token_std: float = 0.0,
        mask_token_decay: bool = True,
        masks_per_image: int = 1,
    ) -> None:
        own = distillation_objectives('DINO', neck, head, loss_weight_ce)
        super().__init__(
            backbone,
            {**own, **(objectives or {})},
            masker=masker,
            guide=guide,
            teacher=teacher,
            global_views=global_views,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
            mask_token_std=mask_token_std,
            mask_token_decay=mask_token_decay,
            masks_per_image=masks_per_image,
        )
