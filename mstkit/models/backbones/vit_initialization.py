"""How the weights of a ViT start."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mstkit.models.backbones.layer_initialization import init_like_beit, init_like_mae, init_transformer_weights

INITIALIZATIONS = ('trunc_normal', 'xavier', 'moco_v3', 'beit')


def initialize_vit(kind: str, layers: nn.ModuleList, patch_projection: nn.Module, class_token: Tensor | None) -> None:
    """Initializes layers, patch projection and class token.

    Args:
        kind: one of :data:`INITIALIZATIONS`, described in :class:`MaskedVisionTransformer`.
        layers: the transformer layers.
        patch_projection: the convolution of the patch embedding.
        class_token: (1, 1, C), or None.
    """
    if kind == 'beit':
        init_like_beit(layers, patch_projection, class_token)
        return
    if kind == 'trunc_normal':
        init_transformer_weights(layers.modules())
    else:
        init_like_mae(layers.modules(), patch_projection)
    if kind == 'moco_v3':
        _separate_projections(layers)
        if patch_projection.bias is not None:
            nn.init.zeros_(patch_projection.bias)  # type: ignore[arg-type]
    if class_token is not None:
        draw = nn.init.trunc_normal_ if kind == 'trunc_normal' else nn.init.normal_
        draw(class_token, std=1e-6 if kind == 'moco_v3' else 0.02)


def _separate_projections(layers: Any) -> None:
    """Queries, keys and values Xavier-uniform each by itself, not as one matrix: larger by a factor of √2."""
    for layer in layers:
        for part in layer.attn.qkv.weight.data.chunk(3):
            nn.init.xavier_uniform_(part)
