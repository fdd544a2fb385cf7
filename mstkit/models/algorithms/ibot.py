"""iBOT: image BERT pre-training with online tokenizer (Zhou et al., ICLR 2022, arXiv 2111.07832)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from mstkit.checks import check_number
from mstkit.models.guides import Guide
from mstkit.models.maskers import Masker
from mstkit.models.pretrainer import Pretrainer
from mstkit.registry import MODELS


@MODELS.register_module()
class IBOT(Pretrainer):
    """DINO's loss plus the same distillation of each hidden patch.

    AttMask in iBOT is this with an AttMask masker. Projection of pooled features and patches is shared, as iBOT
    recommends; ``patch_neck`` separates them (wholly: iBOT's own separate variant shares all layers but the last).

    Args:
        backbone: a :class:`MaskedBackbone`.
        masker: what hides the student's patches; the method is nothing without.
        neck: pooled features, and patches, to logits; DINO's head with its defaults.
        head: the loss on the logits of pooled features, with its center and temperatures.
        patch_head: the loss on those of hidden patches, with a center of its own.
        patch_neck: a projection of patches of their own; None shares ``neck``.
        teacher: the moving average, see :class:`MomentumTeacher`.
        guide: where the masker's scores come from, see :class:`Pretrainer`.
        decoder: tokens to images, for MST's restoration beside the other losses; None leaves that out, as iBOT does.
        loss_weight_ce: weight of ``loss_ce``, between views.
        loss_weight_patch: weight of ``loss_patch``, on hidden patches.
        loss_weight_restore: weight of ``loss_restore``.
        objectives: further objectives by name, see :class:`Pretrainer`.
        global_views: how many of the first views are global.
        data_preprocessor: normalization, on the device.
        mask_token_std: what the [MASK] embedding starts as, see :class:`Pretrainer`; zeros, as in iBOT's code.
        mask_token_decay: whether weight decay reaches it; it does in iBOT's code.
    """

    FLAT_KEYS: ClassVar[Mapping[str, str]] = {
        'objectives.ce.neck': 'neck',
        'objectives.ce.head': 'head',
        'objectives.patch.neck': 'patch_neck',
        'objectives.patch.head': 'patch_head',
        'objectives.restore.decoder': 'decoder',
    }

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
    ) -> None:
        weights = dict(
            loss_weight_ce=loss_weight_ce, loss_weight_patch=loss_weight_patch, loss_weight_restore=loss_weight_restore
        )
        for name, weight in weights.items():
            check_number(f'IBOT.{name}', weight, 0, 1e6)
        cross_view = dict(
            type='CrossView',
            neck={'type': 'DINONeck', **(neck or {})},
            head={'type': 'DINOHead', **(head or {})},
            weight=loss_weight_ce,
        )
        patch = dict(
            type='PatchDistillation',
            neck=patch_neck,
            head={'type': 'IBOTHead', **(patch_head or {})},
            weight=loss_weight_patch,
        )
        restore = dict(
            type='ImageRestoration',
            decoder=decoder,
            weight=loss_weight_restore,
        )
        super().__init__(
            backbone,
            {'ce': cross_view, 'patch': patch, 'restore': restore if decoder else None, **(objectives or {})},
            masker=masker,
            guide=guide,
            teacher=teacher,
            global_views=global_views,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
            mask_token_std=mask_token_std,
            mask_token_decay=mask_token_decay,
        )
