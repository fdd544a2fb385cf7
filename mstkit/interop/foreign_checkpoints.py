"""Recognizes checkpoints of other programs by their tensor names, and says how each can be used.

Only names are inspected. The prefixes of wrappers (``module.`` of data parallel training, ``_orig_mod.`` of
``torch.compile``) are removed first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

READ = 'the tools for evaluation and analysis, --pretrained, load_from and "mstkit convert" read it; --resume does not'
INCEPTION = 127.5  # of mean and standard deviation alike, for images in -1..1
# Keys under which programs store the weights of a model; the first one that is present is used.
_PLACES = ('state_dict', 'model', 'teacher', 'student', 'model_state_dict', 'model_ema', 'state_dict_ema', 'module')
_INNER = ('', 'backbone.', 'model.', 'encoder.', 'net.')


class Kind(NamedTuple):
    """A kind of checkpoint: regular expressions, each of which must match a name, and what is known of its networks.

    Attributes:
        words: whose it is.
        tensors: patterns of tensor names.
        entries: keys of the file.
        advice: what reads it.
        offset: of the interpolation of positions, see
            :func:`mstkit.utils.position_interpolation.resize_positions`.
        pool: 'avg' where its class token is not trained, so that the mean of the patches is the image's feature.
        normalization: mean and standard deviation of the channels, where they are not ImageNet's.
    """

    words: str
    tensors: tuple[str, ...] = ()
    entries: tuple[str, ...] = ()
    advice: str = READ
    offset: float = 0.0
    pool: str | None = None
    normalization: float | None = None


# The first match counts: more specific kinds come first.
_KINDS = (
    Kind('PyTorch Lightning', entries=('pytorch-lightning_version',)),
    Kind('iBOT’s or AttMask’s code, a whole training', entries=('student', 'teacher', 'ibot_loss'), offset=0.1),
    Kind('DINO’s code or one like it, a whole training', entries=('student', 'teacher'), offset=0.1),
    Kind('MoBY’s code', (r'encoder_k\..*', r'encoder\..*')),
    Kind('MoCo v3’s code', (r'base_encoder\..*',)),
    Kind('SimMIM’s code', (r'encoder\.mask_token', r'decoder\.0\.weight'), pool='avg'),
    Kind(
        'Hugging Face transformers, a ViTMAE',
        (r'(vit\.)?embeddings\.patch_embeddings\..*', r'decoder\.decoder_embed\.weight'),
        pool='avg',
    ),
    Kind('MAE’s code, with its decoder', (r'decoder_embed\.weight', r'decoder_blocks\..*'), pool='avg'),
    # It has BEiT's names, and rotary positions, of which no tensor tells.
    Kind('timm’s DINOv3', (r'blocks\.0\.gamma_1', r'reg_token', r'cls_token')),
    Kind('BEiT’s code or timm’s BEiT', (r'blocks\.0\.attn\.q_bias',), pool='avg', normalization=INCEPTION),
    Kind('Hugging Face transformers, a Swin', (r'(\w+\.)?encoder\.layers\.0\.blocks\.0\.attention\..*',)),
    Kind(
        'Hugging Face transformers, a BEiT',
        (r'(\w+\.)?(encoder\.layer|layers)\.0\.lambda_1',),
        pool='avg',
        normalization=INCEPTION,
    ),
    Kind('Hugging Face transformers, a DINOv2', (r'(\w+\.)?encoder\.layer\.0\.layer_scale1\.lambda1',)),
    Kind('Hugging Face transformers, a ViT', (r'(\w+\.)?(encoder\.layer|layers)\.0\.layernorm_before\.weight',)),
    Kind('Hugging Face transformers, a DINOv3', (r'(model\.)?layer\.0\.layer_scale1\.lambda1',)),
    Kind('torchvision, a ViT', (r'conv_proj\.weight', r'encoder\.layers\.encoder_layer_0\..*')),
    Kind('torchvision, a Swin', (r'features\.1\.0\.attn\.relative_position_bias_table',)),
    Kind(
        'DINOv3’s code',
        (r'blocks\.0\.norm1\.weight', r'storage_tokens'),
    ),
    Kind('DINOv2’s code, with registers', (r'blocks\.0\.ls1\.gamma', r'register_tokens')),
    Kind('DINOv2’s code', (r'blocks\.0\.ls1\.gamma', r'mask_token'), offset=0.1),
    Kind(
        'timm’s names for a ViT, as DeiT, DINO, iBOT and MAE release their backbones',
        (r'patch_embed\.proj\.weight', r'blocks\.0\.norm1\.weight'),
    ),
    Kind('timm’s or Microsoft’s names for a Swin', (r'layers\.0\.blocks\.0\.attn\.relative_position_bias_table',)),
    Kind(
        'mmpretrain’s names, a ViT without the prefix backbone.',
        (r'patch_embed\.projection\.weight', r'layers\.0\.ln1\.weight'),
    ),
    Kind('mmpretrain’s names, a Swin without the prefix backbone.', (r'stages\.0\.blocks\.0\.attn\.w_msa\..*',)),
    Kind(
        'a residual network’s names',
        (r'layer1\.0\.conv1\.weight',),
        advice='mstkit reads ViT and Swin only',
    ),
)


def plain_name(name: str) -> str:
    """The name of a tensor without the prefixes of wrappers: ``module.`` at the front, ``_orig_mod.`` anywhere."""
    parts = [part for part in str(name).split('.') if part != '_orig_mod']
    while len(parts) > 1 and parts[0] == 'module':
        parts = parts[1:]
    return '.'.join(parts)


def plain_names(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """A state dict renamed by :func:`plain_name`; unchanged if no name changes or two names would become equal."""
    names = [plain_name(name) for name in state]
    if names == list(state) or len(set(names)) < len(names):
        return state
    return dict(zip(names, state.values(), strict=True))


def recognize(content: Any) -> str:
    """Says in one sentence what kind of checkpoint a file is and how it can be used.

    Args:
        content: the content of a file, nested dicts of which only the keys are used; or a list of tensor names.

    Returns:
        The sentence, with a space before it; ``''`` if no kind is recognized.
    """
    kind = kind_of(content)
    return '' if kind is None else f' It looks like a checkpoint of {kind.words}: {kind.advice}.'


def kind_of(content: Any) -> Kind | None:
    """The kind of checkpoint; argument as for :func:`recognize`."""
    entries = set(map(str, content)) if isinstance(content, Mapping) else set()
    names = _tensor_names(content)
    for kind in _KINDS:
        if kind.entries and entries.issuperset(kind.entries):
            return kind
    for prefix in _INNER:
        inner = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
        for kind in _KINDS:
            if kind.tensors and all(any(re.fullmatch(one, name) for name in inner) for one in kind.tensors):
                return kind
    return None


def _tensor_names(content: Any) -> list[str]:
    """The names of a model's tensors, without the prefixes of wrappers."""
    if isinstance(content, Mapping):
        inside = next((content[place] for place in _PLACES if isinstance(content.get(place), Mapping)), content)
        names: Iterable[Any] = inside
    else:
        names = content if isinstance(content, list | tuple) else ()
    return [plain_name(name) for name in names if isinstance(name, str)]
