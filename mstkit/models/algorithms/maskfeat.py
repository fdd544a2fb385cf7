"""MaskFeat: masked feature prediction for self-supervised visual pre-training (Wei et al., CVPR 2022, 2112.09133)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from mstkit.models.algorithms.flat_arguments import PREDICTION_KEYS, prediction_objective
from mstkit.models.guides import Guide
from mstkit.models.maskers import Masker
from mstkit.models.pretrainer import Pretrainer
from mstkit.models.targets import Target
from mstkit.registry import MODELS

BLOCKS = dict(type='BlockMasker', ratio=0.4, image_prob=1.0, min_block=15)


@MODELS.register_module()
class MaskFeat(Pretrainer):
    """The encoder gets [MASK] tokens in place of hidden patches, and one linear layer predicts their HOG features.

    There is no teacher unless a masker needs one, see :class:`SimMIM`.

    Args:
        backbone: a :class:`MaskedBackbone`, ViT or Swin, whose stride is a multiple of the target's cell size (8 px).
        masker: decides which patches are hidden; by default blocks of at least 15 patches, 40 % of each image (78 of
            196 patches).
        mask_patch_size: see :class:`Pretrainer`.
        decoder: default :class:`LinearDecoder` with weights initialized from a truncated normal, std 0.02.
        target: a :class:`Target`; default :class:`HOG`, as in the paper.
        loss: of the prediction, see :class:`MaskedPrediction`; logged as ``loss_predict``.
        guide: where the masker's scores come from, see :class:`Pretrainer`.
        teacher: see :class:`Pretrainer`.
        loss_weight_predict: weight of the loss.
        objectives: further objectives by name, see :class:`Pretrainer`.
        global_views: how many views of an image are trained on, each by itself.
        data_preprocessor: normalization, on the device; :class:`HOG` does not depend on it.
        mask_token_std: initialization of the [MASK] embedding, see :class:`Pretrainer`.
        mask_token_decay: whether weight decay applies to it.
        masks_per_image: how many masks each view gets for one pass of the teacher, see :class:`Pretrainer`.

    Raises:
        UsageError: parts that do not fit each other.
    """

    FLAT_KEYS = PREDICTION_KEYS

    def __init__(
        self,
        backbone: dict,
        masker: dict | Masker | str | None = BLOCKS,
        mask_patch_size: int | None = None,
        decoder: dict | None = None,
        target: dict | Target | None = None,
        loss: Literal['mse', 'l1', 'smooth_l1', 'cross_entropy'] = 'mse',
        guide: dict | Guide | str | None = 'teacher',
        teacher: dict | bool | None = None,
        loss_weight_predict: float = 1.0,
        objectives: Mapping[str, dict | None] | None = None,
        global_views: int = 1,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        mask_token_std: float = 0.02,
        mask_token_decay: bool = False,
        masks_per_image: int = 1,
    ) -> None:
        target = dict(type='HOG') if target is None else target
        decoder = dict(type='LinearDecoder', init_std=0.02) if decoder is None else decoder
        predict = prediction_objective('MaskFeat', target, decoder, 'LinearDecoder', loss, loss_weight_predict)
        super().__init__(
            backbone,
            {'predict': predict, **(objectives or {})},
            masker=masker,
            guide=guide,
            teacher=teacher,
            global_views=global_views,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
            mask_token_std=mask_token_std,
            mask_token_decay=mask_token_decay,
            mask_patch_size=mask_patch_size,
            masks_per_image=masks_per_image,
        )
