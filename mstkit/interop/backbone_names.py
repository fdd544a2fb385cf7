"""Names of a backbone's tensors in the files of other programs, and ours, which are mmpretrain's ViT and Swin.

What is renamed: timm's names, which the releases of MAE, BEiT and SimMIM have (SimMIM's after ``encoder.``), and those
of mmpretrain's BEiT. Beside the names three things differ: BEiT's biases of queries and values lie outside of ``qkv``,
the official Swin merges patches in another order than mmpretrain, and the index of a table of relative positions, which
follows from the grid, is not loaded at all.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.interop.foreign_checkpoints import plain_names
from mstkit.structures import PlacedRelatively
from mstkit.utils.relative_positions import token_pairs

INDEX = 'relative_position_index'
# Of a ViT or Swin under timm's names; anything else in such a file is a decoder, a head or a projector.
_BACKBONE = re.compile(
    r'(cls_token|pos_embed|absolute_pos_embed|mask_token)$|(patch_embed|blocks|layers|norm|fc_norm|rel_pos_bias)\.'
)
_VIT = (
    (r'^patch_embed\.proj\.', 'patch_embed.projection.'),
    (r'^blocks\.', 'layers.'),
    (r'^norm\.', 'ln1.'),
    (r'^fc_norm\.', 'ln2.'),
    (r'\.norm([12])\.', r'.ln\1.'),
    (r'\.mlp\.fc1\.', '.ffn.layers.0.0.'),
    (r'\.mlp\.fc2\.', '.ffn.layers.1.'),
)
_BEIT = ((r'\.gamma_1$', '.attn.gamma1.weight'), (r'\.gamma_2$', '.ffn.gamma2.weight'))
_SWIN = (
    (r'^patch_embed\.proj\.', 'patch_embed.projection.'),
    (r'^layers\.', 'stages.'),
    (r'\.attn\.', '.attn.w_msa.'),
    (r'\.mlp\.fc1\.', '.ffn.layers.0.0.'),
    (r'\.mlp\.fc2\.', '.ffn.layers.1.'),
)
_PLACES = ('model', 'state_dict', 'module')
_PREFIXES = {'backbone.': ('encoder.', ''), 'teacher.backbone.': ('encoder_k.',)}


def official_backbone(content: Any) -> dict[str, Tensor] | None:
    """The tensors of a file in the layout of MAE's, BEiT's, SimMIM's or MoBY's code.

    Args:
        content: what is in the file.

    Returns:
        Under our names: the backbone's after ``backbone.``, MoBY's key encoder's after ``teacher.backbone.``, and what
        belongs to no backbone under its own; None where the file has another layout.
    """
    if not isinstance(content, Mapping):
        return None
    inside = next((content[place] for place in _PLACES if isinstance(content.get(place), Mapping)), content)
    if not all(isinstance(name, str) for name in inside):
        return None
    state = {name: value for name, value in plain_names(inside).items() if isinstance(value, Tensor)}
    found: dict[str, Tensor] = {}
    rest = dict(state)
    for ours, prefixes in _PREFIXES.items():
        prefix = next((one for one in prefixes if f'{one}patch_embed.proj.weight' in state), None)
        if prefix is None:
            continue
        own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        kept = {name: value for name, value in own.items() if _BACKBONE.match(name)}
        found |= {ours + name: value for name, value in _from_timm(kept).items()}
        rest = {name: value for name, value in rest.items() if name.removeprefix(prefix) not in kept}
    return {**found, **rest} if found else None


def _from_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    stages = {match[1] for name in state if (match := re.match(r'layers\.(\d+)\.blocks\.', name))}
    if not stages:
        return {_renamed(name, (*_VIT, *_BEIT)): value for name, value in state.items()}
    last = max(map(int, stages))
    early = not any(name.startswith('layers.0.downsample.') for name in state)  # timm merges at the start of a stage
    found = {}
    for name, value in state.items():
        if name.endswith(('.attn_mask', INDEX)):
            continue  # which tokens a window keeps apart, and how far apart they are: both follow from the sizes
        stage, merging, part = re.sub(r'^layers\.(\d+)\.downsample\.', r'\1 downsample ', name).partition(
            ' downsample '
        )
        if merging:
            found[f'stages.{int(stage) - early}.downsample.{part}'] = _in_order_of_unfold(value)
        else:
            own = re.sub(r'^norm\.', f'norm{last}.', name)
            found[_renamed(own, _SWIN)] = value
    return found


def _in_order_of_unfold(value: Tensor) -> Tensor:
    """Weights (..., 4C) for 2x2 patches side by side, of which the official Swin goes down the columns first.

    mmpretrain unfolds: the four values of a channel are together, row by row.
    """
    parts = value.unflatten(-1, (4, -1))[..., [0, 2, 1, 3], :]
    return parts.transpose(-1, -2).flatten(-2).contiguous()


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def own_names(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A backbone's tensors as a network has them, as far as only names and the place of biases differ.

    Args:
        state: with mmpretrain's names, of its BEiT as well.
        own: the network's.
    """
    found = {_renamed(name, _BEIT): value for name, value in state.items()}
    for name in [name for name in found if name.endswith('.attn.q_bias') and name not in own]:
        whole, values = name.replace('q_bias', 'qkv.bias'), name.replace('q_bias', 'v_bias')
        if whole in own and values in found:
            queries = found.pop(name)
            found[whole] = torch.cat((queries, torch.zeros_like(queries), found.pop(values)))
    return {name: value for name, value in found.items() if not (name.endswith(INDEX) and name not in own)}


def left_out(names: Any, prefix: str) -> tuple[str, ...]:
    """What of a file belongs to no backbone, with the count of its tensors: ``decoder_blocks (96 tensors)``.

    Args:
        names: of all its tensors.
        prefix: of the backbone's.
    """
    ours = ('backbone', 'teacher', 'objectives', 'mask_token')
    tops = Counter(name.split('.')[0] for name in names if not name.startswith(prefix))
    return tuple(f'{top} ({count} tensor{"s" * (count > 1)})' for top, count in tops.items() if top not in ours)


def mmpretrain_state(backbone: nn.Module) -> dict[str, Tensor]:
    """The state dict of the class of mmpretrain's that is the same network, which loads it strictly.

    Args:
        backbone: a ``MaskedVisionTransformer`` or ``MaskedSwinTransformer``.

    Returns:
        Of ``VisionTransformer`` or ``SwinTransformer`` the same names. Of a ViT with relative positions, without
        absolute ones, or without a bias of keys those of ``BEiTViT``.

    Raises:
        UsageError: mmpretrain has no such network.
    """
    state, placeable = backbone.state_dict(), isinstance(backbone, PlacedRelatively)
    placed = backbone.relative_positions if isinstance(backbone, PlacedRelatively) else None
    if 'register_tokens' in state:
        raise UsageError('mmpretrain has no ViT with registers: num_registers has to be 0 for its state dict.')
    plain = placed is None and 'pos_embed' in state and not any(name.endswith('.q_bias') for name in state)
    if plain or not placeable:
        return dict(state)
    if 'cls_token' not in state and placed is not None:
        raise UsageError("mmpretrain's BEiT has a class token: one without it has no counterpart there.")
    rules = ((r'\.attn\.gamma1\.weight$', '.gamma_1'), (r'\.ffn\.gamma2\.weight$', '.gamma_2'))
    found = {_renamed(name, rules): value for name, value in state.items()}
    for name in [name for name in found if name.endswith('relative_position_bias_table')]:
        grid: Any = backbone.table_grid
        pairs = token_pairs(grid, True, 0, found[name].device)
        found[name.replace('relative_position_bias_table', INDEX)] = pairs.entries.clone()
    return found
