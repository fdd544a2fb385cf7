"""ADIOS: adversarial masking for self-supervised learning (Shi et al., ICML 2022, arXiv 2201.13100)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from mstkit.models.algorithms.flat_arguments import with_defaults
from mstkit.models.guides import Guide
from mstkit.models.maskers import Masker
from mstkit.models.pretrainer import Pretrainer
from mstkit.registry import MODELS
from mstkit.utils.checks import check_number

UNET = dict(type='OcclusionUNet', masks=6, channels=16, blocks=6, bottleneck=7, lr_mult=0.3)


@MODELS.register_module()
class ADIOS(Pretrainer):
    """SimCLR whose second view is occluded by a network that is trained against the encoder.

    No patch is hidden by a [MASK] token: pixels are multiplied, so every backbone will do. The defaults are those of
    ADIOS's SimCLR command for a ViT-Tiny, with a U-Net for 224 px.

    Args:
        backbone: a :class:`MaskedBackbone`, ViT or Swin.
        occlusion: the occlusion network, see :class:`OcclusionUNet`; default 6 masks, 16 channels, 6 resolutions, and
            3/10 of the encoder's learning rate.
        hidden_dim: of the projector, see :class:`AdversarialMasking`.
        out_dim: its output.
        temperature: divisor of the cosine similarities.
        sparsity: weight of the penalty against masks of nothing or everything.
        single: one mask for each image instead of all of them (ADIOS-s), see :class:`AdversarialMasking`.
        loss_weight_adversarial: weight of the loss, which is logged as ``loss_adversarial``.
        masker: hides patches of the whole views too; None or 'none', as in the paper, hides nothing.
        guide: where the masker's scores come from, see :class:`Pretrainer`.
        teacher: see :class:`Pretrainer`; ADIOS itself has none.
        objectives: further objectives by name, see :class:`Pretrainer`.
        data_preprocessor: normalization, on the device.

    Raises:
        UsageError: parts that do not fit each other.
    """

    FLAT_KEYS = MappingProxyType({'objectives.adversarial.occlusion': 'occlusion'})

    def __init__(
        self,
        backbone: dict,
        occlusion: dict | None = None,
        hidden_dim: int = 2048,
        out_dim: int = 128,
        temperature: float = 0.2,
        sparsity: float = 0.89,
        single: bool = False,
        loss_weight_adversarial: float = 1.0,
        masker: dict | Masker | str | None = None,
        guide: dict | Guide | str | None = 'teacher',
        teacher: dict | bool | None = None,
        objectives: Mapping[str, dict | None] | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        adversarial: dict[str, Any] = dict(
            type='AdversarialMasking',
            occlusion=with_defaults(UNET, occlusion),
            hidden_dim=hidden_dim,
            out_dim=out_dim,
            temperature=temperature,
            sparsity=sparsity,
            single=single,
            weight=check_number('ADIOS.loss_weight_adversarial', loss_weight_adversarial, 0, 1e6),
        )
        super().__init__(
            backbone,
            {'adversarial': adversarial, **(objectives or {})},
            masker=masker,
            guide=guide,
            teacher=teacher,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
