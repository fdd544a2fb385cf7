"""Recognizes checkpoints of other programs by their tensor names, and says how each can be used.

Only names are inspected. The prefixes of wrappers (``module.`` of data parallel training, ``_orig_mod.`` of
``torch.compile``) are removed first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

AS_TIMM = (
    'the tools for evaluation and analysis read it as timm:NAME@FILE, NAME being its architecture, such as '
    'vit_small_patch16_224, and --pretrained reads it too; load_from and --resume do not'
)
AS_MMPRETRAIN = 'the tools for evaluation and analysis read it as mmpretrain:NAME@FILE, and --pretrained reads it too'
AS_PRETRAINED = '--pretrained reads it, into a config with that network; other commands do not'
NOT_YET = 'no command reads it yet; one that renames its tensors to those of timm gives a file for timm:NAME@FILE'
PART_FIRST = (
    'save the tensors of {part} alone, without the prefix {prefix}, in a file of their own; the tools for evaluation '
    'and analysis read that as timm:NAME@FILE'
)
BARE = 'save its tensors once more under state_dict, with that prefix; ' + AS_MMPRETRAIN
# Keys under which programs store the weights of a model; the first one that is present is used.
_PLACES = ('state_dict', 'model', 'teacher', 'student', 'model_state_dict', 'model_ema', 'state_dict_ema', 'module')
_INNER = ('', 'backbone.', 'model.', 'encoder.', 'net.')


class _Kind(NamedTuple):
    """A kind of checkpoint: regular expressions, each of which must match a name, and the advice for it."""

    words: str
    advice: str
    tensors: tuple[str, ...] = ()
    entries: tuple[str, ...] = ()


# The first match counts: more specific kinds come first.
_KINDS = (
    _Kind('PyTorch Lightning', NOT_YET, entries=('pytorch-lightning_version',)),
    _Kind(
        'iBOT’s or AttMask’s code, a whole training',
        PART_FIRST.format(part='teacher', prefix='module.backbone.'),
        entries=('student', 'teacher', 'ibot_loss'),
    ),
    _Kind(
        'DINO’s code or one like it, a whole training',
        PART_FIRST.format(part='teacher', prefix='module.backbone.'),
        entries=('student', 'teacher'),
    ),
    _Kind('MoBY’s code', AS_PRETRAINED, (r'encoder_k\..*', r'encoder\..*')),
    _Kind('MoCo v3’s code', PART_FIRST.format(part='base_encoder', prefix='base_encoder.'), (r'base_encoder\..*',)),
    _Kind('SimMIM’s code', AS_PRETRAINED, (r'encoder\.mask_token', r'decoder\.0\.weight')),
    _Kind(
        'Hugging Face transformers, a ViTMAE',
        NOT_YET,
        (r'(vit\.)?embeddings\.patch_embeddings\..*', r'decoder\.decoder_embed\.weight'),
    ),
    _Kind(
        'MAE’s code, with its decoder',
        '--pretrained reads it; for the tools for evaluation and analysis, save its tensors alone that are neither of '
        'the decoder nor mask_token, which they read as timm:NAME@FILE',
        (r'decoder_embed\.weight', r'decoder_blocks\..*'),
    ),
    _Kind('BEiT’s code or timm’s BEiT', AS_PRETRAINED, (r'blocks\.0\.attn\.q_bias',)),
    _Kind(
        'Hugging Face transformers, a Swin',
        NOT_YET,
        (r'(\w+\.)?encoder\.layers\.0\.blocks\.0\.attention\.self\.query\.weight',),
    ),
    _Kind('Hugging Face transformers, a DINOv2', NOT_YET, (r'(\w+\.)?encoder\.layer\.0\.layer_scale1\.lambda1',)),
    _Kind('Hugging Face transformers, a ViT', NOT_YET, (r'(\w+\.)?encoder\.layer\.0\.layernorm_before\.weight',)),
    _Kind('Hugging Face transformers, a DINOv3', NOT_YET, (r'(model\.)?layer\.0\.layer_scale1\.lambda1',)),
    _Kind('torchvision, a ViT', NOT_YET, (r'conv_proj\.weight', r'encoder\.layers\.encoder_layer_0\..*')),
    _Kind('torchvision, a Swin', NOT_YET, (r'features\.1\.0\.attn\.relative_position_bias_table',)),
    _Kind('DINOv2’s code', AS_TIMM, (r'blocks\.0\.ls1\.gamma', r'mask_token')),
    _Kind(
        'timm’s names for a ViT, as DeiT, DINO, iBOT and MAE release their backbones',
        AS_TIMM,
        (r'patch_embed\.proj\.weight', r'blocks\.0\.norm1\.weight'),
    ),
    _Kind(
        'timm’s or Microsoft’s names for a Swin',
        AS_TIMM,
        (r'layers\.0\.blocks\.0\.attn\.relative_position_bias_table',),
    ),
    _Kind(
        'mmpretrain’s names, a ViT without the prefix backbone.',
        BARE,
        (r'patch_embed\.projection\.weight', r'layers\.0\.ln1\.weight'),
    ),
    _Kind(
        'mmpretrain’s names, a Swin without the prefix backbone.',
        BARE,
        (r'stages\.0\.blocks\.0\.attn\.w_msa\..*',),
    ),
    _Kind('a residual network’s names', 'mstkit reads ViT and Swin only', (r'layer1\.0\.conv1\.weight',)),
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
    entries = set(map(str, content)) if isinstance(content, Mapping) else set()
    names = _tensor_names(content)
    for kind in _KINDS:
        if kind.entries and entries.issuperset(kind.entries):
            return _sentence(kind)
    for prefix in _INNER:
        inner = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
        for kind in _KINDS:
            if kind.tensors and all(any(re.fullmatch(one, name) for name in inner) for one in kind.tensors):
                return _sentence(kind)
    return ''


def recognize_safetensors(file: Path) -> str | None:
    """Like :func:`recognize` for a safetensors file, from its header; None if it is no such file."""
    try:
        with open(file, 'rb') as stream:
            length = int.from_bytes(stream.read(8), 'little')
            if not 2 <= length <= file.stat().st_size - 8 or stream.read(1) != b'{':
                return None
            names = [name for name in json.loads(b'{' + stream.read(length - 1)) if name != '__metadata__']
    except (OSError, ValueError):
        return None
    advice = (
        ' The tools for evaluation and analysis read such files as timm:NAME@FILE, where their names are timm’s; '
        '--pretrained, load_from and --resume do not yet.'
    )
    return f'It is a safetensors file.{recognize(names) or advice}'


def _sentence(kind: _Kind) -> str:
    return f' It looks like a checkpoint of {kind.words}: {kind.advice}.'


def _tensor_names(content: Any) -> list[str]:
    """The names of a model's tensors, without the prefixes of wrappers."""
    if isinstance(content, Mapping):
        inside = next((content[place] for place in _PLACES if isinstance(content.get(place), Mapping)), content)
        names: Iterable[Any] = inside
    else:
        names = content if isinstance(content, list | tuple) else ()
    return [plain_name(name) for name in names if isinstance(name, str)]
