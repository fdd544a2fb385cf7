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
    """DINO's self-distillation with some of the least-attended patches hidden, plus reconstruction of the whole image.

    L = λ1 L_CE + λ2 L_restoring (eq. 11), where L_restoring is the mean absolute error over all pixels, hidden or not,
    of the student's global views (eq. 9). Both losses are means; with the sums in the paper's algorithm 2, the λ would
    depend on batch and image size.

    Args:
        backbone: a :class:`MaskedBackbone`.
        neck: projects pooled features to logits; default :class:`DINONeck`.
        head: the loss on those logits, with center and temperatures; default :class:`DINOHead`.
        teacher: arguments of the :class:`MomentumTeacher`.
        masker: decides which of the student's patches are hidden, :class:`AttentionGuidedMasker` in the paper; None or
            'none' hides nothing.
        guide: where the masker's scores come from, see :class:`Pretrainer`; the teacher in the paper.
        decoder: maps tokens to images, :class:`CNNImageDecoder` in the paper; None for no reconstruction (table 4).
        patch_head: iBOT's loss on hidden patches in addition; None, as in the paper, for no such loss.
        patch_neck: a separate projection of patches for it; None shares ``neck``.
        loss_weight_ce: λ1, of ``loss_ce``.
        loss_weight_restore: λ2, of ``loss_restore``.
        loss_weight_patch: weight of ``loss_patch``.
        objectives: further objectives by name, see :class:`Pretrainer`.
        global_views: how many of the first views are global.
        data_preprocessor: normalization, on the device.
        mask_token_std: initialization of the [MASK] embedding, see :class:`Pretrainer`; 0.02 as in BEiT, since the
            paper does not say.
        mask_token_decay: whether weight decay applies to it.
        masks_per_image: how many masks each view gets for one pass of the teacher, see :class:`Pretrainer`.

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
        masks_per_image: int = 1,
    ) -> None:
        if patch_neck is not None and patch_head is None:
            raise UsageError('patch_neck is given without patch_head, the loss on its logits: give both')
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
            masks_per_image=masks_per_image,
        )
