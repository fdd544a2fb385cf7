"""MSN: masked Siamese networks for label-efficient learning (Assran et al., ECCV 2022, arXiv 2204.07141)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from mstkit.models.algorithms.flat_arguments import with_defaults
from mstkit.models.guides import Guide
from mstkit.models.maskers import Masker
from mstkit.models.pretrainer import Pretrainer
from mstkit.registry import MODELS
from mstkit.utils.checks import check_number

# 30 of 196 patches: MSN's code keeps floor(0.85 * 196).
DROPS = dict(type='RandomMasker', ratio=0.15, rounding='up')
NECK = dict(type='DINONeck', out_dim=1024, hidden_dim=2048, bottleneck_dim=256, batch_norm='all', norm_last_layer=True)


@MODELS.register_module()
class MSN(Pretrainer):
    """An encoder without the hidden patches has to assign a view to the prototypes that the teacher finds in another.

    Of the global views of an image the student gets the first ones, without the patches that the mask hides, and all
    local views, whole; the teacher gets the global view that follows, whole. There is neither a decoder nor a [MASK]
    token. A masker that asks for the teacher's scores costs a pass of it over the student's views.

    Args:
        backbone: a :class:`MaskedBackbone` that can encode visible patches alone.
        masker: decides which patches are dropped; by default 15 % at random.
        neck: projection and prototypes, a :class:`DINONeck`; by default MSN's, with 1,024 prototypes.
        temperature: see :class:`PrototypeMatching`; so are ``sharpening``, ``sinkhorn`` and ``entropy_weight``.
        teacher: arguments of the :class:`MomentumTeacher`.
        guide: where the masker's scores come from, see :class:`Pretrainer`.
        loss_weight_match: weight of the loss, which is logged as ``loss_match``.
        objectives: further objectives by name, see :class:`Pretrainer`.
        global_views: how many global views the student gets; the pipeline has to make one more, the target view.
        data_preprocessor: normalization, on the device.
        masks_per_image: how many masks each view gets for one pass of the teacher, see :class:`Pretrainer`.

    Raises:
        UsageError: parts that do not fit each other.
    """

    FLAT_KEYS: ClassVar[Mapping[str, str]] = {'objectives.match.neck': 'neck'}

    def __init__(
        self,
        backbone: dict,
        masker: dict | Masker | str | None = DROPS,
        neck: dict | None = None,
        temperature: float = 0.1,
        sharpening: float = 0.25,
        sinkhorn: bool = True,
        entropy_weight: float = 1.0,
        teacher: dict | None = None,
        guide: dict | Guide | str | None = 'teacher',
        loss_weight_match: float = 1.0,
        objectives: Mapping[str, dict | None] | None = None,
        global_views: int = 1,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        masks_per_image: int = 1,
    ) -> None:
        match = dict(
            type='PrototypeMatching',
            neck=with_defaults(NECK, neck),
            temperature=temperature,
            sharpening=sharpening,
            sinkhorn=sinkhorn,
            entropy_weight=entropy_weight,
            weight=check_number('MSN.loss_weight_match', loss_weight_match, 0, 1e6),
        )
        super().__init__(
            backbone,
            {'match': match, **(objectives or {})},
            masker=masker,
            guide=guide,
            teacher=teacher,
            global_views=global_views,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
            encoder_sees='visible',
            masks_per_image=masks_per_image,
        )
