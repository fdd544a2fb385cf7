"""MST: masked self-supervised transformer for visual representation (arXiv 2106.05656)."""

from __future__ import annotations

from collections.abc import Mapping

from mstkit.errors import UsageError
from mstkit.models.algorithms.flat_arguments import FLAT_KEYS, distillation_objectives
from mstkit.models.guides import Guide
from mstkit.models.maskers import Masker
from mstkit.models.pretrainer import Pretrainer
from mstkit.registry import MODELS


@MODELS.register_module()
class MSTAlgorithm(Pretrainer):
    """Self-distillation with least-attended patches hidden, and the whole image restored from what is left.

    L = λ1 L_CE + λ2 L_restoring (eq. 11), the second being the mean absolute error over all pixels of the global
    views as the student saw them, hidden or not (eq. 9). Both losses are means: with the sums that the paper's
    algorithm 2 prints, its λ would have no meaning.

    Args:
        backbone: a :class:`MaskedBackbone`.
        neck: pooled features to logits; DINO's head with its defaults.
        head: the loss on those logits, with its center and temperatures.
        teacher: the moving average, see :class:`MomentumTeacher`.
        masker: what hides the student's patches, :class:`AttentionGuidedMasker` in the paper; None or 'none' hides
            nothing.
        guide: where the masker's scores come from, see :class:`Pretrainer`; the teacher in the paper.
        decoder: tokens to images, :class:`CNNImageDecoder` in the paper; None leaves the restoration out (table 4).
        patch_head: iBOT's loss on hidden patches beside the paper's; None leaves it out, as the paper does.
        patch_neck: a projection of patches of their own for that; None shares ``neck``.
        loss_weight_ce: λ1, of ``loss_ce``.
        loss_weight_restore: λ2, of ``loss_restore``.
        loss_weight_patch: weight of ``loss_patch``.
        objectives: further objectives by name, see :class:`Pretrainer`.
        global_views: how many of the first views are global.
        data_preprocessor: normalization, on the device.
        mask_token_std: what the [MASK] embedding starts as: a truncated normal, 0.02, as BEiT's; the paper is silent.
        mask_token_decay: whether weight decay reaches it; it does not.

    Raises:
        UsageError: ``patch_neck`` without ``patch_head``; see :class:`Pretrainer`.
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
        decoder: dict | None = None,
        patch_head: dict | None = None,
        patch_neck: dict | None = None,
        loss_weight_ce: float = 1.0,
        loss_weight_restore: float = 0.6,
        loss_weight_patch: float = 1.0,
        objectives: Mapping[str, dict | None] | None = None,
        global_views: int = 2,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        mask_token_std: float = 0.02,
        mask_token_decay: bool = False,
    ) -> None:
        if patch_neck is not None and patch_head is None:
            raise UsageError('patch_neck is given without patch_head, whose logits it would make: give both')
        own = distillation_objectives(
            'MSTAlgorithm',
            neck,
            head,
            loss_weight_ce,
            patch_head,
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
        )
