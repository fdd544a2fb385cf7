"""What the names of a ViT's tensors say of its settings, for whoever gives a checkpoint to another ViT."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from mstkit.utils.rotary_positions import ROTARY_BASE


def vit_settings(names: Collection[str]) -> dict[str, Any]:
    """The settings of a :class:`MaskedVisionTransformer` by which its tensors have these names; empty for no ViT."""
    first = {match[1] for name in names if (match := re.fullmatch(r'layers\.0\.(.+)', name))}
    if 'ln1.weight' not in first:
        return {}
    tables = any(name.endswith('relative_position_bias_table') for name in names)
    return dict(
        relative_positions='per_layer' if tables else None,  # one that is shared goes to every layer
        positions='learned' if 'pos_embed' in names else 'none',
        qkv_bias='qv_bias' if 'attn.q_bias' in first else 'attn.qkv.bias' in first,
        layer_scale_init_value=0.1 if 'attn.gamma1.weight' in first else 0.0,
    )


def rotary_base_of(backbone: Mapping[str, Any]) -> float | None:
    """The base of the rotary positions of a :class:`MaskedVisionTransformer`'s config; None where it has none."""
    return float(backbone.get('rotary_base', ROTARY_BASE)) if backbone.get('positions') == 'rotary' else None


def settings_hint(in_file: Collection[str], in_module: Collection[str]) -> str:
    """What to set in the config of a ViT, so that it takes the tensors of another; empty where that is not the matter.

    Args:
        in_file: names of the file's tensors, as mstkit's.
        in_module: names of the backbone's.
    """
    wanted, given = vit_settings(in_file), vit_settings(in_module)
    other = [f'{name}={value!r}' for name, value in wanted.items() if given and given[name] != value]
    return f' The ViT of the file has {", ".join(other)}: give that to a MaskedVisionTransformer.' if other else ''
