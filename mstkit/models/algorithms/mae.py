"""MAE: masked autoencoders are scalable vision learners (He et al., CVPR 2022, arXiv 2111.06377)."""

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

RANDOM = dict(type='RandomMasker', ratio=0.75, rounding='up')


@MODELS.register_module()
class MAE(Pretrainer):
    """The encoder encodes the visible quarter of the patches; a small decoder predicts the pixels of the others.

    There is no teacher unless a masker needs one: AttMask in MAE, for example, is guided by a moving average of the
    encoder (``teacher``, or ``guide='ema'``) that encodes the unmasked images. No loss of MAE trains the class token
    directly, so patches are ranked by the mean attention that they receive from all patches (``score`` of
    :class:`Guide`).

    Args:
        backbone: a :class:`MaskedBackbone` that can encode visible patches alone. For a
            :class:`MaskedVisionTransformer`, ``positions`` and ``initialization`` default to MAE's,
            ``global_pool`` to 'avg'.
        masker: decides which patches are hidden; by default 75 % at random.
        decoder: default :class:`ViTDecoder` with MAE's 8 layers, 512 channels and 16 heads.
        norm_pix: predict pixels normalized by the mean and deviation of their patch (``norm_pix_loss`` of MAE's code,
            with the better results in the paper), not the pixels themselves.
        target: a :class:`Target` to predict instead of pixels.
        loss: of the prediction, see :class:`MaskedPrediction`; logged as ``loss_predict``.
        guide: where the masker's scores come from, see :class:`Pretrainer`.
        teacher: see :class:`Pretrainer`.
        mask_patch_size: see :class:`Pretrainer`.
        loss_weight_predict: weight of the loss.
        weighting: of the hidden patches in it by the guide's scores (AttG-MAE), for example ``dict(temperature=0.5)``,
            see :class:`MaskedPrediction`; None weighs all alike.
        objectives: further objectives by name, see :class:`Pretrainer`.
        global_views: how many views of an image are trained on, each by itself.
        data_preprocessor: normalization, on the device.
        masks_per_image: how many masks each view gets for one pass of the teacher, see :class:`Pretrainer`.

    Raises:
        UsageError: parts that do not fit each other.
    """

    FLAT_KEYS = PREDICTION_KEYS
    VIT_DEFAULTS = MappingProxyType(dict(positions='sincos', initialization='xavier', global_pool='avg'))

    def __init__(
        self,
        backbone: dict,
        masker: dict | Masker | str | None = RANDOM,
        decoder: dict | None = None,
        norm_pix: bool = True,
        target: dict | Target | None = None,
        loss: Literal['mse', 'l1', 'smooth_l1', 'cross_entropy'] = 'mse',
        guide: dict | Guide | str | None = 'teacher',
        teacher: dict | bool | None = None,
        mask_patch_size: int | None = None,
        loss_weight_predict: float = 1.0,
        weighting: dict | None = None,
        objectives: Mapping[str, dict | None] | None = None,
        global_views: int = 1,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        masks_per_image: int = 1,
    ) -> None:
        target = dict(type='Pixels', norm=norm_pix) if target is None else target
        predict = prediction_objective('MAE', target, decoder, 'ViTDecoder', loss, loss_weight_predict, weighting)
        super().__init__(
            backbone,
            {'predict': predict, **(objectives or {})},
            masker=masker,
            guide=guide,
            teacher=teacher,
            global_views=global_views,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
            encoder_sees='visible',
            mask_patch_size=mask_patch_size,
            masks_per_image=masks_per_image,
        )
