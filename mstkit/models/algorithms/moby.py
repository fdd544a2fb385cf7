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
    """Contrastive learning with MoCo's queue of keys and BYOL's asymmetric predictor.

    The teacher is updated at the start of the iteration that follows an optimizer step, before it computes the keys,
    with the momentum of that iteration. In every checkpoint it is therefore one step behind the student.

    Args:
        backbone: a :class:`MaskedBackbone`.
        neck: the projector, see :class:`KeyContrast`; the teacher has a moving average of it.
        predictor: maps the student's projections to queries; the teacher has none.
        head: the loss with its queues; default :class:`MoBYHead`.
        teacher: arguments of the :class:`MomentumTeacher`; the momentum starts at 0.99 by default.
        masker: decides which of the student's patches are hidden; None or 'none', as in the paper, hides nothing.
        guide: where the masker's scores come from, see :class:`Pretrainer`.
        objectives: further objectives by name, see :class:`Pretrainer`.
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
        objectives: Mapping[str, dict | None] | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        contrast = dict(type='KeyContrast', neck=neck, predictor=predictor, head={'type': 'MoBYHead', **(head or {})})
        super().__init__(
            backbone,
            {'contrast': contrast, **(objectives or {})},
            masker=masker,
            guide=guide,
            teacher={'momentum': 0.99, 'follow': 'before_step', **(teacher or {})},
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
