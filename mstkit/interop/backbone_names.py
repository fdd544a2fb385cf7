"""Small differences among networks that have mmpretrain's names: its BEiT, biases of queries and values alone.

The names of other libraries are in :mod:`mstkit.formats`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.structures import PlacedByRotation, PlacedRelatively
from mstkit.utils.relative_positions import token_pairs

INDEX = 'relative_position_index'
_BEIT = ((r'\.gamma_1$', '.attn.gamma1.weight'), (r'\.gamma_2$', '.ffn.gamma2.weight'))


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
    if isinstance(backbone, PlacedByRotation) and backbone.rotary_base is not None:
        raise UsageError('mmpretrain has no ViT with rotary positions of this kind: its state dict cannot be written.')
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
