"""SimMIM: a simple framework for masked image modeling (Xie et al., CVPR 2022, arXiv 2111.09886)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from mstkit.models.algorithms.flat_arguments import PREDICTION_KEYS, prediction_objective
from mstkit.models.guides import Guide
from mstkit.models.maskers import Masker
from mstkit.models.pretrainer import Pretrainer
from mstkit.models.targets import Target
from mstkit.registry import MODELS

RANDOM = dict(type='RandomMasker', ratio=0.6, rounding='up')


@MODELS.register_module()
class SimMIM(Pretrainer):
    """The encoder gets [MASK] tokens in place of hidden patches, and one linear layer predicts their pixels.

    There is no teacher unless a masker needs one: AttMask in SimMIM, for example, is guided by a moving average of the
    encoder (``teacher``, or ``guide='ema'``) that encodes the unmasked images, by the mean attention
    that patches receive.

    Args:
        backbone: a :class:`MaskedBackbone`, ViT or Swin; ``global_pool`` of a ViT defaults to 'avg'.
        masker: decides which squares are hidden; by default 60 % at random.
        mask_patch_size: side in pixels of the squares that are masked as a whole, see :class:`Pretrainer`; 32 in the
            paper: one token of a Swin's last stage, or 2×2 patches of a ViT/16. None masks single patch tokens.
        decoder: default :class:`LinearDecoder`, equivalent to the paper's 1×1 convolution and ``PixelShuffle``.
        target: a :class:`Target`; default :class:`Pixels` without ``norm``, as in the paper.
        loss: of the prediction, see :class:`MaskedPrediction`; logged as ``loss_predict``.
        guide: where the masker's scores come from, see :class:`Pretrainer`.
        teacher: see :class:`Pretrainer`.
        loss_weight_predict: weight of the loss.
        weighting: of the hidden patches in it by the guide's scores (AttG-MAE), for example ``dict(temperature=0.5)``,
            see :class:`MaskedPrediction`; None weighs all alike.
        objectives: further objectives by name, see :class:`Pretrainer`.
        global_views: how many views of an image are trained on, each by itself.
        data_preprocessor: normalization, on the device.
        mask_token_std: initialization of the [MASK] embedding, see :class:`Pretrainer`.
        mask_token_decay: whether weight decay applies to it.
        masks_per_image: how many masks each view gets for one pass of the teacher, see :class:`Pretrainer`.

    Raises:
        UsageError: parts that do not fit each other.
    """

    FLAT_KEYS = PREDICTION_KEYS
    VIT_DEFAULTS = MappingProxyType(dict(global_pool='avg'))

    def __init__(
        self,
        backbone: dict,
        masker: dict | Masker | str | None = RANDOM,
        mask_patch_size: int | None = 32,
        decoder: dict | None = None,
        target: dict | Target | None = None,
        loss: Literal['mse', 'l1', 'smooth_l1', 'cross_entropy'] = 'l1',
        guide: dict | Guide | str | None = 'teacher',
        teacher: dict | bool | None = None,
        loss_weight_predict: float = 1.0,
        weighting: dict | None = None,
        objectives: Mapping[str, dict | None] | None = None,
        global_views: int = 1,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        mask_token_std: float = 0.02,
        mask_token_decay: bool = False,
        masks_per_image: int = 1,
    ) -> None:
        target = dict(type='Pixels', order='channel row column') if target is None else target
        predict = prediction_objective('SimMIM', target, decoder, 'LinearDecoder', loss, loss_weight_predict, weighting)
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
