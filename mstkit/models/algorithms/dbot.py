"""dBOT: exploring target representations for masked autoencoders (Liu et al., ICLR 2024, arXiv 2209.03917)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from mstkit.models.algorithms.flat_arguments import PREDICTION_KEYS, prediction_objective
from mstkit.models.algorithms.mae import MAE, RANDOM
from mstkit.models.guides import Guide
from mstkit.models.maskers import Masker
from mstkit.models.pretrainer import Pretrainer
from mstkit.models.targets import Target
from mstkit.registry import MODELS


@MODELS.register_module()
class DBOT(Pretrainer):
    """MAE's encoder and decoder predict, of each hidden patch, the features of a frozen teacher of the whole image.

    Training goes in stages, each a run of its own: the student of one stage is the frozen teacher of the next, in
    which a student starts again from random weights. The teacher of the first stage may itself be random. Which
    network a stage predicts is ``target.source``: ``'random'``, or the checkpoint of the stage before.

    Args:
        backbone: as of :class:`MAE`, with the same defaults.
        masker: decides which patches are hidden; by default 75 % at random.
        decoder: default :class:`ViTDecoder` with MAE's 8 layers, 512 channels and 16 heads.
        target: a :class:`Target`; default :class:`FrozenFeatures` of a random network of the student's architecture,
            the output of its last block, layer-normalized.
        loss: of the prediction, see :class:`MaskedPrediction`; logged as ``loss_predict``.
        beta: the error at which 'smooth_l1' changes from quadratic to linear; 2, as in dBOT's code.
        guide: where the masker's scores come from, see :class:`Pretrainer`.
        teacher: see :class:`Pretrainer`; the moving average that may guide a masker, not the frozen teacher.
        mask_patch_size: see :class:`Pretrainer`.
        loss_weight_predict: weight of the loss.
        objectives: further objectives by name, see :class:`Pretrainer`.
        global_views: how many views of an image are trained on, each by itself.
        data_preprocessor: normalization, on the device.
        masks_per_image: how many masks each view gets for one pass of the teacher, see :class:`Pretrainer`.

    Raises:
        UsageError: parts that do not fit each other.
    """

    FLAT_KEYS = PREDICTION_KEYS
    VIT_DEFAULTS = MappingProxyType(dict(MAE.VIT_DEFAULTS))

    def __init__(
        self,
        backbone: dict,
        masker: dict | Masker | str | None = RANDOM,
        decoder: dict | None = None,
        target: dict | Target | None = None,
        loss: Literal['mse', 'l1', 'smooth_l1', 'cross_entropy'] = 'smooth_l1',
        beta: float = 2.0,
        guide: dict | Guide | str | None = 'teacher',
        teacher: dict | bool | None = None,
        mask_patch_size: int | None = None,
        loss_weight_predict: float = 1.0,
        objectives: Mapping[str, dict | None] | None = None,
        global_views: int = 1,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        masks_per_image: int = 1,
    ) -> None:
        target = dict(type='FrozenFeatures') if target is None else target
        predict = prediction_objective('DBOT', target, decoder, 'ViTDecoder', loss, loss_weight_predict)
        super().__init__(
            backbone,
            {'predict': {**predict, 'beta': beta}, **(objectives or {})},
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
