"""LocalMIM: masked image modeling with local multi-scale reconstruction (Wang et al., CVPR 2023, arXiv 2303.05251)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from mstkit.errors import UsageError
from mstkit.models.algorithms.flat_arguments import prediction_objective
from mstkit.models.algorithms.mae import MAE, RANDOM
from mstkit.models.guides import Guide
from mstkit.models.maskers import Masker
from mstkit.models.pretrainer import Pretrainer
from mstkit.models.targets import Target
from mstkit.registry import MODELS

# One histogram per cell of the grid, all pixels of which have the same weight.
HISTOGRAM = dict(type='HOG', cell_size=None, gaussian_window=0)
DECODER = dict(type='ViTDecoder', embed_dims=256, num_layers=1, num_heads=8)
MOST = 64  # more blocks to predict from than any backbone has


@MODELS.register_module()
class LocalMIM(Pretrainer):
    """The encoder encodes visible patches alone; from several of its blocks small decoders predict the hidden ones.

    Lower blocks predict a fine grid, upper ones a coarse one, each with a decoder of its own, so that lower blocks are
    taught directly. The loss is the sum over blocks of the mean error of hidden cells; a cell that covers several
    patches has as weight the share of them that is hidden. Each block is an objective ``local1``, ``local2`` …, a
    :class:`MaskedPrediction` with ``layer`` and ``scale``. There is no teacher unless a masker needs one, see
    :class:`MAE`.

    Args:
        backbone: a :class:`MaskedBackbone` that can encode visible patches alone; defaults as in
            :class:`MAE`.
        masker: decides which patches are hidden; by default 75 % at random.
        layers: the blocks, 1 for the first or -1 for the last; default as in LocalMIM's code for every ViT, of ViT-B
            the second, fourth, tenth and twelfth.
        scales: for each of them the cells along a side of a patch, see :class:`MaskedPrediction`; by default cells of
            4, 8, 16 and 32 px with patches of 16 px.
        decoder: of each block; default :class:`ViTDecoder` with one layer, 256 channels and 8 heads.
        target: a :class:`Target`, computed for the cells of each grid; default :class:`HOG` with one cell each and 9
            bins, without a Gaussian window. The paper's other one is ``dict(type='Pixels', norm=True)``.
        loss: of the prediction, see :class:`MaskedPrediction`; logged as ``loss_local1`` ….
        guide: where the masker's scores come from, see :class:`Pretrainer`.
        teacher: see :class:`Pretrainer`.
        mask_patch_size: see :class:`Pretrainer`.
        loss_weight_predict: weight of each of the losses.
        objectives: further objectives by name, see :class:`Pretrainer`.
        global_views: how many views of an image are trained on, each by itself.
        data_preprocessor: normalization, on the device.
        masks_per_image: how many masks each view gets for one pass of the teacher, see :class:`Pretrainer`.

    Raises:
        UsageError: no layer, or not as many scales as layers; parts that do not fit each other.
    """

    FLAT_KEYS = MappingProxyType(
        {f'objectives.local{i}.{part}': part for i in range(1, MOST) for part in ('target', 'decoder')}
    )
    VIT_DEFAULTS = MAE.VIT_DEFAULTS

    def __init__(
        self,
        backbone: dict,
        masker: dict | Masker | str | None = RANDOM,
        layers: Sequence[int] = (2, 4, -3, -1),
        scales: Sequence[float] = (4.0, 2.0, 1.0, 0.5),
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
        masks_per_image: int = 1,
    ) -> None:
        if not layers or len(layers) != len(scales) or len(layers) >= MOST:
            raise UsageError(
                f'LocalMIM: layers={tuple(layers)} and scales={tuple(scales)}: give at least one layer, and a scale '
                'for each of them'
            )
        target = HISTOGRAM if target is None else target
        decoder = DECODER if decoder is None else decoder
        predict = prediction_objective('LocalMIM', target, decoder, 'ViTDecoder', loss, loss_weight_predict)
        own = {
            f'local{i}': {**predict, 'layer': layer, 'scale': scale}
            for i, (layer, scale) in enumerate(zip(layers, scales, strict=True), start=1)
        }
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
