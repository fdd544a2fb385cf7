"""CMAE: contrastive masked autoencoders are stronger vision learners (Huang et al., TPAMI 2024, arXiv 2207.13532)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from mstkit.models.algorithms.flat_arguments import PREDICTION_KEYS, prediction_objective, with_defaults
from mstkit.models.algorithms.mae import MAE
from mstkit.models.guides import Guide
from mstkit.models.maskers import Masker
from mstkit.models.pretrainer import Pretrainer
from mstkit.models.targets import Target
from mstkit.registry import MODELS
from mstkit.utils.checks import check_number

RANDOM = dict(type='RandomMasker', ratio=0.65, rounding='up')
MLP = dict(
    type='NonLinearNeck',
    hid_channels=1536,
    out_channels=256,
    with_bias=True,
    with_last_bn=False,
    with_avg_pool=False,
    norm_cfg=dict(type='BN1d', eps=1e-6),
)
TWO_LAYERS = dict(type='ViTDecoder', num_layers=2)
PARTS = {'decoder': 'feature_decoder', 'neck': 'neck', 'predictor': 'predictor'}


@MODELS.register_module()
class CMAE(Pretrainer):
    """MAE, whose encoder also has to tell images apart: InfoNCE with the teacher's features of a second view.

    The second view, the target view, is shifted by a few pixels and has colors of its own (``pixel_shift`` of
    :class:`MultiCrop`); the teacher alone sees it, whole.

    Args:
        backbone: a :class:`MaskedBackbone` that can encode visible patches alone; a
            :class:`MaskedVisionTransformer` has the defaults that :class:`MAE` gives it.
        masker: decides which patches are hidden; by default 65 % at random.
        decoder: of pixels, see :class:`MAE`.
        feature_decoder: of features, see :class:`TargetViewContrast`; default :class:`ViTDecoder` with 2 layers.
        neck: the projector, one of mmpretrain's; default a hidden layer of 1,536 with batch normalization, 256 outputs.
        predictor: likewise.
        temperature: of InfoNCE.
        norm_pix: see :class:`MAE`; so are ``target``, ``loss`` and ``mask_patch_size``.
        guide: where the masker's scores come from, see :class:`Pretrainer`.
        teacher: arguments of the :class:`MomentumTeacher`; momentum 0.996 throughout where they leave it out.
        loss_weight_predict: weight of the reconstruction, which is logged as ``loss_predict``.
        loss_weight_contrast: weight of InfoNCE, which is logged as ``loss_contrast``. CMAE's code multiplies by twice
            the temperature as well: 0.14 is its weight of 1.
        objectives: further objectives by name, see :class:`Pretrainer`.
        global_views: how many views the student gets; the pipeline has to make one more, the target view.
        data_preprocessor: normalization, on the device.
        masks_per_image: how many masks each view gets for one pass of the teacher, see :class:`Pretrainer`.

    Raises:
        UsageError: parts that do not fit each other.
    """

    FLAT_KEYS = MappingProxyType({**PREDICTION_KEYS, **{f'objectives.contrast.{k}': v for k, v in PARTS.items()}})
    VIT_DEFAULTS = MAE.VIT_DEFAULTS

    def __init__(
        self,
        backbone: dict,
        masker: dict | Masker | str | None = RANDOM,
        decoder: dict | None = None,
        feature_decoder: dict | None = None,
        neck: dict | None = None,
        predictor: dict | None = None,
        temperature: float = 0.07,
        norm_pix: bool = True,
        target: dict | Target | None = None,
        loss: Literal['mse', 'l1', 'smooth_l1', 'cross_entropy'] = 'mse',
        guide: dict | Guide | str | None = 'teacher',
        teacher: dict | None = None,
        mask_patch_size: int | None = None,
        loss_weight_predict: float = 1.0,
        loss_weight_contrast: float = 1.0,
        objectives: Mapping[str, dict | None] | None = None,
        global_views: int = 1,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        masks_per_image: int = 1,
    ) -> None:
        target = dict(type='Pixels', norm=norm_pix) if target is None else target
        contrast = dict(
            type='TargetViewContrast',
            decoder=with_defaults(TWO_LAYERS, feature_decoder),
            neck=with_defaults(MLP, neck),
            predictor=with_defaults(MLP, predictor),
            temperature=temperature,
            weight=check_number('CMAE.loss_weight_contrast', loss_weight_contrast, 0, 1e6),
        )
        own = dict(
            predict=prediction_objective('CMAE', target, decoder, 'ViTDecoder', loss, loss_weight_predict),
            contrast=contrast,
        )
        super().__init__(
            backbone,
            {**own, **(objectives or {})},
            masker=masker,
            guide=guide,
            teacher={'momentum': 0.996, 'end_momentum': 0.996, **(teacher or {})},
            global_views=global_views,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
            encoder_sees='visible',
            mask_patch_size=mask_patch_size,
            masks_per_image=masks_per_image,
        )
