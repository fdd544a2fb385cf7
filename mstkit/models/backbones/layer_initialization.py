"""How published networks initialize the linear layers of a transformer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn


def init_transformer_weights(modules: Iterable[nn.Module]) -> None:
    """Truncated-normal initialization of every linear layer, std 0.02, biases zero.

    The initialization of DINO, MoBY and the official Swin; mmpretrain leaves the attention projections at torch's
    default.
    """
    for module in modules:
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def init_like_mae(modules: Iterable[nn.Module], patch_projection: nn.Module) -> None:
    """MAE's initialization: Xavier-uniform weights of every linear layer, biases zero.

    The patch projection is initialized as a linear layer, too; its bias keeps torch's default, as in MAE's code.
    """
    for module in modules:
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.xavier_uniform_(patch_projection.weight.flatten(1))  # type: ignore[operator]


def init_like_beit(layers: Iterable[Any], patch_projection: nn.Module, class_token: Tensor | None) -> None:
    """BEiT's and SimMIM's initialization of a ViT, as their code has it for pre-training.

    Weights of every linear layer, of the patch projection, and the class token are normal with std 0.02, truncated at
    ±0.02, and biases are zero; then the weights of the last linear layer of the attention and of the feed-forward
    branch of layer i, counted from 1, are divided by sqrt(2i), so that deep layers start close to the identity.
    """
    linears = [module for layer in layers for module in layer.modules() if isinstance(module, nn.Linear)]
    for module in (*linears, patch_projection):
        nn.init.trunc_normal_(module.weight, std=0.02, a=-0.02, b=0.02)  # type: ignore[arg-type]
        if module.bias is not None:
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    for depth, layer in enumerate(layers, start=1):
        last = [module for module in layer.ffn.modules() if isinstance(module, nn.Linear)][-1]
        for linear in (layer.attn.proj, last):
            linear.weight.data.div_((2 * depth) ** 0.5)
    if class_token is not None:
        nn.init.trunc_normal_(class_token, std=0.02, a=-0.02, b=0.02)
