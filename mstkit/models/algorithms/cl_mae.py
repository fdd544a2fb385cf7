"""CL-MAE: curriculum-learned masked autoencoders (Madan et al., WACV 2024, arXiv 2308.16572)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from mstkit.models.algorithms.flat_arguments import PREDICTION_KEYS, with_defaults
from mstkit.models.algorithms.mae import MAE
from mstkit.models.guides import Guide
from mstkit.models.maskers import Masker
from mstkit.models.targets import Target
from mstkit.registry import MODELS
from mstkit.utils.checks import check_number

NETWORK = dict(type='MaskingTransformer', num_layers=5, num_heads=4, mlp_ratio=4.0, lr_mult=1.0)
LEARNED = dict(type='AttMaskHigh', ratio=0.75, image_prob=1.0)


@MODELS.register_module()
class CLMAE(MAE):
    """MAE whose masks are learned by a network of their own, first easy and then hard ones.

    Defaults are those of CL-MAE's code, which predicts pixels that are not normalized.

    Args:
        backbone: see :class:`MAE`.
        network: the masking network, see :class:`MaskingTransformer`; default 5 layers as wide as the encoder.
        ratio: the share of patches to which the network's visibilities are drawn; None for the masker's, see
            :class:`CurriculumMasking`, as are the next four.
        factor: at the start and the end of the run, how much the network helps (1) or works against the student (−1).
        gauss_weight: of the term that drives visibilities to 0 or 1.
        kl_weight: of the term that keeps their mean at the share of visible patches.
        diversity_weight: of the term that makes masks of images differ.
        loss_weight_hide: weight of the masking network's loss, which is logged as ``loss_hide``.
        masker: chooses by the network's scores; by default hides the 75 % of the smallest visibility.
        decoder: see :class:`MAE`.
        norm_pix: see :class:`MAE`.
        target: see :class:`MAE`.
        loss: of the prediction, see :class:`MaskedPrediction`; logged as ``loss_predict``.
        guide: 'learned', the masking network; see :class:`Pretrainer` for others.
        teacher: see :class:`Pretrainer`.
        mask_patch_size: see :class:`Pretrainer`.
        loss_weight_predict: weight of the prediction's loss.
        weighting: see :class:`MAE`.
        objectives: further objectives by name, see :class:`Pretrainer`.
        global_views: see :class:`MAE`.
        data_preprocessor: normalization, on the device.

    Raises:
        UsageError: parts that do not fit each other.
    """

    FLAT_KEYS = MappingProxyType({**PREDICTION_KEYS, 'objectives.hide.network': 'network'})

    def __init__(
        self,
        backbone: dict,
        network: dict | None = None,
        ratio: float | None = None,
        factor: Sequence[float] = (1.0, -1.0),
        gauss_weight: float = 1.0,
        kl_weight: float = 0.1,
        diversity_weight: float = 2.0,
        loss_weight_hide: float = 1.0,
        masker: dict | Masker | str | None = LEARNED,
        decoder: dict | None = None,
        norm_pix: bool = False,
        target: dict | Target | None = None,
        loss: Literal['mse', 'l1', 'smooth_l1', 'cross_entropy'] = 'mse',
        guide: dict | Guide | str | None = 'learned',
        teacher: dict | bool | None = None,
        mask_patch_size: int | None = None,
        loss_weight_predict: float = 1.0,
        weighting: dict | None = None,
        objectives: Mapping[str, dict | None] | None = None,
        global_views: int = 1,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        hide: dict[str, Any] = dict(
            type='CurriculumMasking',
            network=with_defaults(NETWORK, network),
            of='predict',
            ratio=ratio,
            factor=factor,
            gauss_weight=gauss_weight,
            kl_weight=kl_weight,
            diversity_weight=diversity_weight,
            weight=check_number('CLMAE.loss_weight_hide', loss_weight_hide, 0, 1e6),
        )
        super().__init__(
            backbone,
            masker=masker,
            decoder=decoder,
            norm_pix=norm_pix,
            target=target,
            loss=loss,
            guide=guide,
            teacher=teacher,
            mask_patch_size=mask_patch_size,
            loss_weight_predict=loss_weight_predict,
            weighting=weighting,
            objectives={'hide': hide, **(objectives or {})},
            global_views=global_views,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
