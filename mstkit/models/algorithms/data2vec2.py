"""data2vec 2.0: contextualized target representations, learned efficiently (Baevski et al., ICML 2023, 2212.07525)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from mstkit.models.algorithms.flat_arguments import PREDICTION_KEYS, prediction_objective
from mstkit.models.algorithms.mae import MAE
from mstkit.models.guides import Guide
from mstkit.models.maskers import Masker
from mstkit.models.pretrainer import Pretrainer
from mstkit.models.targets import Target
from mstkit.registry import MODELS

# Squares of 3x3 patches stay visible, a fifth of the image.
SQUARES = dict(type='InverseMultiBlockMasker', ratio=0.8)
# Of 375,300 steps: 0.99999 after 100,000.
MOMENTUM = ((0.0, 0.9998), (0.2665, 0.99999))


@MODELS.register_module()
class Data2Vec2(Pretrainer):
    """data2vec with MAE's encoder, a decoder of convolutions and several masks of an image for a pass of the teacher.

    The encoder encodes the visible patches alone, so that a pass of the student is much cheaper than the teacher's over
    the whole image; therefore the student sees each image M times, each time under another mask. At the hidden patches
    it predicts the mean of the teacher's upper layers.

    Args:
        backbone: a :class:`MaskedBackbone` that can encode visible patches alone, so no Swin. For a
            :class:`MaskedVisionTransformer`, ``positions`` default to MAE's, ``global_pool`` to 'avg', since the loss
            of the class token in data2vec 2.0's code, which has a weight of 0.01, is left out.
        masker: decides which patches are hidden; by default all but squares of 3x3 patches, 80 %.
        decoder: default :class:`ConvDecoder` with 6 layers of the encoder's width.
        target: a :class:`Target`; default :class:`TeacherLayers` of the upper half of the blocks, each channel of a
            layer normalized over the patches of an image, then the mean of the layers over the channels of a patch. The
            code has the outputs of the MLPs of 10 of 12 blocks, before they are added.
        loss: of the prediction, see :class:`MaskedPrediction`; logged as ``loss_predict``.
        guide: where the masker's scores come from, see :class:`Pretrainer`.
        teacher: arguments of the :class:`MomentumTeacher`; by default momentum follows a straight line from 0.9998 to
            0.99999 over the first 27 % of the run.
        mask_patch_size: see :class:`Pretrainer`.
        loss_weight_predict: weight of the loss.
        objectives: further objectives by name, see :class:`Pretrainer`.
        global_views: how many views of an image are trained on, each by itself.
        data_preprocessor: normalization, on the device.
        masks_per_image: M, see :class:`Pretrainer`; 16 in data2vec 2.0's ViT-B (``clone_batch``).

    Raises:
        UsageError: parts that do not fit each other.
    """

    FLAT_KEYS = PREDICTION_KEYS
    VIT_DEFAULTS = MappingProxyType({**MAE.VIT_DEFAULTS, 'initialization': 'trunc_normal'})

    def __init__(
        self,
        backbone: dict,
        masker: dict | Masker | str | None = SQUARES,
        decoder: dict | None = None,
        target: dict | Target | None = None,
        loss: Literal['mse', 'l1', 'smooth_l1', 'cross_entropy'] = 'mse',
        guide: dict | Guide | str | None = 'teacher',
        teacher: dict | bool | None = None,
        mask_patch_size: int | None = None,
        loss_weight_predict: float = 1.0,
        objectives: Mapping[str, dict | None] | None = None,
        global_views: int = 1,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        masks_per_image: int = 16,
    ) -> None:
        target = dict(type='TeacherLayers', norm='instance', norm_mean=True) if target is None else target
        predict = prediction_objective('Data2Vec2', target, decoder, 'ConvDecoder', loss, loss_weight_predict)
        if teacher is None or teacher is True:
            teacher = {}
        if isinstance(teacher, Mapping) and not {'momentum', 'end_momentum'} & set(teacher):
            teacher = {'schedule': MOMENTUM, **teacher}
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
