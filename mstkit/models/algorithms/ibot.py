"""iBOT: image BERT pre-training with online tokenizer (Zhou et al., ICLR 2022, arXiv 2111.07832)."""

from __future__ import annotations

from collections.abc import Mapping

from mstkit.models.algorithms.flat_arguments import FLAT_KEYS, distillation_objectives
from mstkit.models.guides import Guide
from mstkit.models.maskers import Masker
from mstkit.models.pretrainer import Pretrainer
from mstkit.registry import MODELS


@MODELS.register_module()
class IBOT(Pretrainer):
    """DINO's loss plus self-distillation of each hidden patch.

    AttMask in iBOT is this class with an AttMask masker. Pooled features and patches share one projection, as iBOT
    recommends; with ``patch_neck`` they share no layer (iBOT's separate variant shares all layers but the last).

    Args:
        backbone: a :class:`MaskedBackbone`.
        masker: decides which of the student's patches are hidden; required.
        neck: projects pooled features and patches to logits; default :class:`DINONeck`.
        head: the loss on the logits of pooled features, with center and temperatures; default :class:`DINOHead`.
        patch_head: the loss on the logits of hidden patches, with its own center; default :class:`IBOTHead`.
        patch_neck: a separate projection of patches; None shares ``neck``.
        teacher: arguments of the :class:`MomentumTeacher`.
        guide: where the masker's scores come from, see :class:`Pretrainer`.
        decoder: maps tokens to images, for MST's reconstruction loss in addition; None, as in iBOT, for no such loss.
        loss_weight_ce: weight of ``loss_ce``, between views.
        loss_weight_patch: weight of ``loss_patch``, on hidden patches.
        loss_weight_restore: weight of ``loss_restore``.
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
        masker: dict | Masker | str | None,
        neck: dict | None = None,
        head: dict | None = None,
        patch_head: dict | None = None,
        patch_neck: dict | None = None,
        teacher: dict | None = None,
        guide: dict | Guide | str | None = 'teacher',
        decoder: dict | None = None,
        loss_weight_ce: float = 1.0,
        loss_weight_patch: float = 1.0,
        loss_weight_restore: float = 1.0,
        objectives: Mapping[str, dict | None] | None = None,
        global_views: int = 2,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        mask_token_std: float = 0.0,
        mask_token_decay: bool = True,
        masks_per_image: int = 1,
    ) -> None:
        own = distillation_objectives(
            'IBOT',
            neck,
            head,
            loss_weight_ce,
            {'type': 'IBOTHead', **(patch_head or {})},
            patch_neck,
            loss_weight_patch,
            decoder,
            loss_weight_restore,
        )
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
