"""BEiT: BERT pre-training of image transformers (Bao et al., ICLR 2022, arXiv 2106.08254)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from mmengine.logging import print_log

from mstkit.errors import UsageError
from mstkit.models.algorithms.flat_arguments import prediction_objective
from mstkit.models.guides import Guide
from mstkit.models.maskers import Masker
from mstkit.models.pretrainer import Pretrainer
from mstkit.models.tokenizers import Tokenizer, build_tokenizer
from mstkit.registry import MODELS

# 75 of 196 patches: int(0.383 * 196).
BLOCKS = dict(type='BlockMasker', ratio=0.383, image_prob=1.0, min_block=16)
TOKENIZER = 'work_dirs/tokenizer.pth'
ENCODER = dict(
    positions='none',
    relative_positions='shared',
    qkv_bias='qv_bias',
    layer_scale_init_value=0.1,
    initialization='beit',
    global_pool='avg',
)


@MODELS.register_module()
class BEiT(Pretrainer):
    """The encoder sees [MASK] tokens in hidden places, and one linear layer predicts their ids by a cross-entropy.

    What the ids are decides what is learned, so that a run is called by them: the log says 'BEiT with k-means tokens of
    FILE'. It is BEiT as published only with those of DALL-E. There is no teacher, unless a masker asks for one, see
    :class:`SimMIM`.

    Args:
        backbone: a :class:`MaskedBackbone`, ViT or Swin. A :class:`MaskedVisionTransformer` gets BEiT's shared relative
            positions without absolute ones, biases of queries and values, LayerScale of 0.1 and initialization, and
            ``global_pool='avg'``, unless its config says otherwise.
        tokenizer: a file that tools/train_tokenizer.py wrote, or the config of a :class:`Tokenizer`.
        masker: what hides patches; blocks of at least 16 patches, 75 of 196 in each image.
        mask_patch_size: see :class:`Pretrainer`; single patch tokens where it is not given.
        decoder: :class:`LinearDecoder` unless told otherwise, whose weights start as a truncated normal of 0.02.
        guide: where the masker's scores come from, see :class:`Pretrainer`.
        teacher: see :class:`Pretrainer`.
        loss_weight_predict: weight of the loss, which is logged as ``loss_predict``.
        objectives: further objectives by name, see :class:`Pretrainer`.
        global_views: how many views of an image are trained on, each by itself.
        data_preprocessor: normalization, on the device; the tokenizer gets pixels back.
        mask_token_std: what the [MASK] embedding starts as, see :class:`Pretrainer`; a truncated normal, 0.02.
        mask_token_decay: whether weight decay reaches it; it does, as in BEiT's code.
        masks_per_image: how many masks each view gets for one pass of the teacher, see :class:`Pretrainer`.

    Raises:
        UsageError: no such tokenizer; parts that do not fit each other.
    """

    VIT_DEFAULTS = ENCODER
    FLAT_KEYS: ClassVar[Mapping[str, str]] = {
        'objectives.predict.target.tokenizer': 'tokenizer',
        'objectives.predict.decoder': 'decoder',
    }

    def __init__(
        self,
        backbone: dict,
        tokenizer: dict | Tokenizer | str = TOKENIZER,
        masker: dict | Masker | str | None = BLOCKS,
        mask_patch_size: int | None = None,
        decoder: dict | None = None,
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
        try:
            codes = build_tokenizer(tokenizer)
        except UsageError as error:
            raise UsageError(f'BEiT.tokenizer: {error}') from error
        decoder = dict(type='LinearDecoder', init_std=0.02) if decoder is None else decoder
        target = dict(type='Tokens', tokenizer=codes)
        predict = prediction_objective('BEiT', target, decoder, 'LinearDecoder', 'cross_entropy', loss_weight_predict)
        super().__init__(
            backbone,
            {'predict': predict, **(objectives or {})},
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
        print_log(f'BEiT with {codes.name}, {codes.in_words()}', logger='current')
