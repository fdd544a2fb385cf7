"""data2vec: a general framework for self-supervised learning (Baevski et al., ICML 2022, 2202.03555), for images."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from mstkit.models.algorithms.beit import ENCODER
from mstkit.models.algorithms.flat_arguments import PREDICTION_KEYS, prediction_objective
from mstkit.models.guides import Guide
from mstkit.models.maskers import Masker
from mstkit.models.pretrainer import Pretrainer
from mstkit.models.targets import Target
from mstkit.registry import MODELS

# 120 of 196 patches: int(0.6125 * 196).
BLOCKS = dict(type='BlockMasker', ratio=0.6125, image_prob=1.0, min_block=16)
TEACHER = dict(momentum=0.999, end_momentum=0.9998)


@MODELS.register_module()
class Data2Vec(Pretrainer):
    """The student sees [MASK] tokens in hidden places and predicts there the features of its teacher's upper layers.

    The teacher, a moving average of the student, sees the whole image. Its features of a patch, unlike pixels or
    tokens, contain information of the entire image.

    Args:
        backbone: a :class:`MaskedBackbone`, ViT or Swin. A :class:`MaskedVisionTransformer` gets BEiT's shared relative
            positions without absolute ones, biases of queries and values and initialization, LayerScale of 1e-4, and
            ``global_pool='avg'``, unless its config says otherwise.
        masker: decides which patches are hidden; by default blocks of at least 16 patches, 120 of 196 in each image.
        mask_patch_size: see :class:`Pretrainer`.
        decoder: default :class:`LinearDecoder` with weights initialized from a truncated normal, std 0.02.
        target: a :class:`Target`; default :class:`TeacherLayers` of the upper half of the blocks, both normalizations
            of data2vec's code.
        loss: of the prediction, see :class:`MaskedPrediction`; logged as ``loss_predict``.
        beta: the error at which 'smooth_l1' changes from quadratic to linear.
        guide: where the masker's scores come from, see :class:`Pretrainer`.
        teacher: arguments of :class:`MomentumTeacher`; momentum from 0.999 to 0.9998 where they leave it out.
        loss_weight_predict: weight of the loss.
        objectives: further objectives by name, see :class:`Pretrainer`.
        global_views: how many views of an image are trained on, each by itself.
        data_preprocessor: normalization, on the device.
        mask_token_std: initialization of the [MASK] embedding, see :class:`Pretrainer`.
        mask_token_decay: whether weight decay applies to it; it does, as in data2vec's code.
        masks_per_image: how many masks each view gets for one pass of the teacher, see :class:`Pretrainer`.

    Raises:
        UsageError: parts that do not fit each other.
    """

    FLAT_KEYS = PREDICTION_KEYS
    VIT_DEFAULTS = MappingProxyType({**ENCODER, 'layer_scale_init_value': 1e-4})

    def __init__(
        self,
        backbone: dict,
        masker: dict | Masker | str | None = BLOCKS,
        mask_patch_size: int | None = None,
        decoder: dict | None = None,
        target: dict | Target | None = None,
        loss: Literal['mse', 'l1', 'smooth_l1', 'cross_entropy'] = 'smooth_l1',
        beta: float = 2.0,
        guide: dict | Guide | str | None = 'teacher',
        teacher: dict | bool | None = None,
        loss_weight_predict: float = 1.0,
        objectives: Mapping[str, dict | None] | None = None,
        global_views: int = 1,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        mask_token_std: float = 0.02,
        mask_token_decay: bool = True,
        masks_per_image: int = 1,
    ) -> None:
        target = dict(type='TeacherLayers', norm='layer', norm_mean=True) if target is None else target
        decoder = dict(type='LinearDecoder', init_std=0.02) if decoder is None else decoder
        predict = prediction_objective('Data2Vec', target, decoder, 'LinearDecoder', loss, loss_weight_predict)
        if teacher is None or teacher is True:
            teacher = TEACHER
        elif isinstance(teacher, Mapping):
            teacher = {**TEACHER, **teacher}
        super().__init__(
            backbone,
            {'predict': {**predict, 'beta': beta}, **(objectives or {})},
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
