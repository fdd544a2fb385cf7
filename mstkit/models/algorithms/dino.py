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
    """Self-distillation: the student's views predict the teacher's assignment of another view.

    The teacher sees the global views; the student sees these and the local ones. DINO itself hides nothing. With a
    masker (AttMask in DINO) the student's global views are hidden in part; the loss stays.

    Args:
        backbone: a :class:`MaskedBackbone`.
        neck: pooled features to logits; DINO's head with its defaults.
        head: the loss on those logits, with its center and temperatures.
        teacher: the moving average, see :class:`MomentumTeacher`.
        masker: what hides the student's patches; None or 'none' hides nothing.
        guide: where the masker's scores come from, see :class:`Pretrainer`.
        loss_weight_ce: weight of the loss, which is logged as ``loss_ce``.
        objectives: further objectives by name, see :class:`Pretrainer`.
        global_views: how many of the first views are global.
        data_preprocessor: normalization, on the device.
        mask_token_std: what the [MASK] embedding starts as, see :class:`Pretrainer`; zeros, as in iBOT's code.
        mask_token_decay: whether weight decay reaches it; it does in iBOT's code.
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
        )
