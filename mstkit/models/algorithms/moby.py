"""MoBY: self-supervised learning with Swin transformers (Xie et al. 2021, arXiv 2105.04553)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from mstkit.models.guides import Guide
from mstkit.models.maskers import Masker
from mstkit.models.pretrainer import Pretrainer
from mstkit.registry import MODELS


@MODELS.register_module()
class MoBY(Pretrainer):
    """MoCo's queue of keys with BYOL's predictor: the student's queries of a view find the teacher's keys of the other.

    The teacher follows at the start of the iteration after an optimizer step, before it makes the keys, with that
    iteration's momentum; so after the last step, as in every checkpoint, it is one step behind.

    Args:
        backbone: a :class:`MaskedBackbone`.
        neck: the projector, see :class:`KeyContrast`; the teacher has one of its own.
        predictor: from projections to what is compared with keys; the student's alone.
        head: the loss with its queues, :class:`MoBYHead`.
        teacher: the moving average, see :class:`MomentumTeacher`; from momentum 0.99 where nothing else is said.
        masker: what hides the student's patches; None or 'none' hides nothing, as in the paper.
        guide: where the masker's scores come from, see :class:`Pretrainer`.
        data_preprocessor: normalization, on the device.

    Raises:
        UsageError: parts that do not fit each other.
    """

    FLAT_KEYS: ClassVar[Mapping[str, str]] = {
        f'objectives.contrast.{part}': part for part in ('neck', 'predictor', 'head')
    }

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        predictor: dict,
        head: dict | None = None,
        teacher: dict | None = None,
        masker: dict | Masker | str | None = None,
        guide: dict | Guide | str | None = 'teacher',
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        contrast = dict(type='KeyContrast', neck=neck, predictor=predictor, head={'type': 'MoBYHead', **(head or {})})
        super().__init__(
            backbone,
            {'contrast': contrast},
            masker=masker,
            guide=guide,
            teacher={'momentum': 0.99, 'follow': 'before_step', **(teacher or {})},
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
