"""Forward hooks that pass the tokens or the attention of a block to a callback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mstkit.networks.attention_maps import attention_weights, patch_centers, window_places
from mstkit.networks.backbone_structure import BackboneStructure, Size
from mstkit.networks.network_blocks import AttentionMaps, Block
from mstkit.utils.device_copies import copied_to

OnTokens = Callable[[Block, Tensor], object]
OnAttention = Callable[[AttentionMaps], object]


def token_hook(structure: BackboneStructure, block: Block, on_tokens: OnTokens) -> RemovableHandle:
    """Calls ``on_tokens`` with the block and its output tokens (B, T, C)."""

    def after_block(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        on_tokens(block, structure.tokens(output))

    return block.module.register_forward_hook(after_block)


def attention_hooks(
    structure: BackboneStructure, block: Block, image: Size, on_attention: OnAttention
) -> list[RemovableHandle]:
    """Calls ``on_attention`` with the attention of a block, before its attention module runs.

    Args:
        structure: of the network.
        block: one of its blocks.
        image: height and width of the images.
        on_attention: the callback.
    """
    grid = (0, 0)

    def before_block(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        nonlocal grid
        grid = structure.grid(image, inputs)

    def before_attention(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        tokens, mask, real = inputs[0], None, None
        stride = structure.stride(block.stage)
        if structure.layout == 'vit':
            positions = copied_to(patch_centers(grid, stride), tokens.device)
        else:
            mask = named.get('mask', *inputs[1:2])
            # A block gets a mask exactly when it shifts.
            window, shift, pad_first = structure.window(block, shifted=mask is not None)
            places, kept = window_places(grid, window, shift, stride, pad_first)
            images = len(tokens) // len(places)
            positions = copied_to(places, tokens.device).repeat(images, 1, 1)
            real = None if kept is None else copied_to(kept, tokens.device).repeat(images, 1)
        weights = attention_weights(module, tokens, mask, named.get('rel_pos_bias'))
        extra, class_token = structure.extra, structure.class_token
        on_attention(AttentionMaps(block.index, block.stage, weights, positions, extra, real, class_token, grid))

    return [
        block.module.register_forward_pre_hook(before_block),
        structure.attention_of(block).register_forward_pre_hook(before_attention, with_kwargs=True),
    ]
