"""BootMAE: bootstrapped masked autoencoders for vision BERT pretraining (Dong et al., ECCV 2022, arXiv 2207.07116)."""

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
from mstkit.utils.checks import check_number, check_probability

# 147 of 196 patches, 27 of which are in no block.
BLOCKS = dict(type='BlockMasker', ratio=0.75, image_prob=1.0, min_block=16, max_block=60, scattered=27 / 147)
DECODER = 'CrossAttentionDecoder'
PIXEL_DECODER = dict(type=DECODER, attends_to=1, embed_dims=512, num_layers=2, num_heads=12)
FEATURE_DECODER = dict(type=DECODER, attends_to=-1, num_layers=2, num_heads=12)
FEATURES = dict(type='TeacherLayers', top=1, norm='layer')
# Of 800 epochs: 0.9999 after 100, 0.99999 after 400.
MOMENTUM = ((0.0, 0.999), (0.125, 0.9999), (0.5, 0.99999))
FEATURE_PARTS = {f'objectives.feature.{part}': f'feature_{part}' for part in ('target', 'decoder')}


@MODELS.register_module()
class BootMAE(Pretrainer):
    """MAE, whose encoder is its own teacher: besides pixels, features of a moving average of the encoder are predicted.

    Pixels and features have a decoder each. The pixel decoder attends to the encoder's first block, the feature decoder
    to its last one (:class:`CrossAttentionDecoder`), so that the encoder's output need not keep what the visible
    patches look like. The features are those of the teacher's last block on the whole image, before the final norm;
    they and what is predicted of them are layer-normalized. Hidden patches inside of blocks weigh more (``weight_mask``
    of :class:`MaskedPrediction`).

    Args:
        backbone: a :class:`MaskedBackbone` that can encode visible patches alone. For a
            :class:`MaskedVisionTransformer`, ``positions`` default to MAE's, ``initialization`` to MoCo v3's (as in
            BootMAE's code), ``global_pool`` to 'avg'.
        masker: decides which patches are hidden; by default 120 of 196 in blocks of 16 to 60, and 27 others at
            random, as in BootMAE's code.
        decoder: of pixels; default :class:`CrossAttentionDecoder` on the first block, with 2 layers, 512 channels and
            12 heads.
        feature_decoder: of features; default likewise on the last block, with the channels of the encoder.
        norm_pix: predict pixels normalized by the mean and deviation of each channel of their patch, not the pixels
            themselves.
        target: a :class:`Target` to predict instead of pixels.
        feature_target: likewise instead of the teacher's features; default :class:`TeacherLayers` of the last block.
        loss: of both predictions, see :class:`MaskedPrediction`; logged as ``loss_predict`` and ``loss_feature``.
        weight_mask: see :class:`MaskedPrediction`.
        guide: where the masker's scores come from, see :class:`Pretrainer`.
        teacher: arguments of :class:`MomentumTeacher`; a momentum from 0.999 to 0.9999 over the first eighth of the run
            and to 0.99999 at half of it where they have none.
        mask_patch_size: see :class:`Pretrainer`.
        loss_weight_predict: weight of the pixels' loss.
        loss_weight_feature: weight of the features' loss.
        feature_warmup: share of the epochs over which the latter rises evenly, as in BootMAE's code.
        objectives: further objectives by name, see :class:`Pretrainer`.
        global_views: how many views of an image are trained on, each by itself.
        data_preprocessor: normalization, on the device.
        masks_per_image: how many masks each view gets for one pass of the teacher, see :class:`Pretrainer`.

    Raises:
        UsageError: parts that do not fit each other.
    """

    FLAT_KEYS = MappingProxyType({**PREDICTION_KEYS, **FEATURE_PARTS})
    VIT_DEFAULTS = MappingProxyType({**MAE.VIT_DEFAULTS, 'initialization': 'moco_v3'})

    def __init__(
        self,
        backbone: dict,
        masker: dict | Masker | str | None = BLOCKS,
        decoder: dict | None = None,
        feature_decoder: dict | None = None,
        norm_pix: bool = True,
        target: dict | Target | None = None,
        feature_target: dict | Target | None = None,
        loss: Literal['mse', 'l1', 'smooth_l1'] = 'mse',
        weight_mask: bool = True,
        guide: dict | Guide | str | None = 'teacher',
        teacher: dict | bool | None = None,
        mask_patch_size: int | None = None,
        loss_weight_predict: float = 1.0,
        loss_weight_feature: float = 1.0,
        feature_warmup: float = 0.25,
        objectives: Mapping[str, dict | None] | None = None,
        global_views: int = 1,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        masks_per_image: int = 1,
    ) -> None:
        target = dict(type='Pixels', norm=norm_pix, norm_by='channel') if target is None else target
        feature_target = FEATURES if feature_target is None else feature_target
        of_pixels = with_defaults(PIXEL_DECODER, decoder)
        of_features = with_defaults(FEATURE_DECODER, feature_decoder)
        predict = prediction_objective('BootMAE', target, of_pixels, DECODER, loss, loss_weight_predict)
        feature = prediction_objective('BootMAE', feature_target, of_features, DECODER, loss, 1.0) | dict(
            weight=check_number('BootMAE.loss_weight_feature', loss_weight_feature, 0, 1e6),
            weight_warmup=check_probability('BootMAE.feature_warmup', feature_warmup),
            norm_predicted=True,
        )
        own = {'predict': {**predict, 'weight_mask': weight_mask}, 'feature': {**feature, 'weight_mask': weight_mask}}
        if teacher is None or teacher is True:
            teacher = {}
        if isinstance(teacher, Mapping) and not {'momentum', 'end_momentum'} & set(teacher):
            teacher = {'schedule': MOMENTUM, **teacher}
        super().__init__(
            backbone,
            {**own, **(objectives or {})},
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
