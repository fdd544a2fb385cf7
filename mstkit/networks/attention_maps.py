"""Attention weights of a block, recomputed from the input of its attention module."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from mstkit.networks.network_blocks import AttentionMaps
from mstkit.utils.rotary_positions import Rotation


def attention_weights(
    attention: Any, tokens: Tensor, mask: Tensor | None = None, bias: Tensor | Rotation | None = None
) -> Tensor:
    """Computes the softmaxed attention weights of an attention module with a joint ``qkv`` projection.

    Supports the attention modules of mstkit, mmpretrain (ViT, BEiT, Swin) and timm (ViT, Swin), which use the same
    attribute names.

    Args:
        attention: the module.
        tokens: (W, T, C), its input.
        mask: (windows of an image, T, T), added to the logits of a shifted Swin block.
        bias: (N, T, T), added to the logits: BEiT's position bias if it is shared by all blocks; or the rotation of
            queries and keys.

    Returns:
        (W, N, T, T) float32.
    """
    windows, length = tokens.shape[:2]
    heads = attention.num_heads
    projected = attention.qkv(tokens)
    if isinstance(getattr(attention, 'q_bias', None), Tensor):  # BEiT's
        zeros = torch.zeros_like(attention.q_bias)
        projected = projected + torch.cat((attention.q_bias, zeros, attention.v_bias))
    query, key, _ = projected.view(windows, length, 3, heads, -1).permute(2, 0, 3, 1, 4)  # (W, N, T, d) each
    if hasattr(attention, 'q_norm'):  # timm's
        query, key = attention.q_norm(query), attention.k_norm(key)
    if isinstance(bias, Rotation):
        query, key, bias = bias.turn(query), bias.turn(key), None
    scale = getattr(attention, 'scale', query.shape[-1] ** -0.5)  # some modules keep none and use the usual one
    # In float32: autocast would compute the logits in half precision.
    with torch.autocast(tokens.device.type, enabled=False):
        scores = query.float() * scale @ key.float().transpose(-2, -1)
    table = getattr(attention, 'relative_position_bias_table', None)  # Swin's and BEiT's
    if table is not None and bias is None:  # mstkit's attention passes all its biases as `bias`
        index = attention.relative_position_index.view(-1)
        scores += table[index].view(length, length, heads).permute(2, 0, 1).float()
    if bias is not None:
        scores += bias.float()
    if mask is not None:
        scores = scores.view(-1, len(mask), heads, length, length) + mask[:, None].float()
        scores = scores.view(windows, heads, length, length)
    return torch.softmax(scores, dim=-1)


def patch_centers(grid: tuple[int, int], stride: float) -> Tensor:
    """Centers of the patches of a grid: (h*w, 2) float32, (y, x) in pixels, row-major."""
    rows, columns = (torch.arange(cells) for cells in grid)
    return (torch.cartesian_prod(rows, columns) + 0.5) * stride


@functools.lru_cache(maxsize=64)
def window_places(
    grid: tuple[int, int], window: tuple[int, int], shift: tuple[int, int], stride: float, pad_first: bool
) -> tuple[Tensor, Tensor | None]:
    """Positions in the image of the tokens in the windows of a Swin block.

    A map that is not divisible into windows is padded at the lower right; a shifted block rolls it to the upper left.
    mmpretrain pads before rolling, so that the padding is rolled, too; timm rolls before padding.

    Args:
        grid: (h, w) of the map.
        window: height and width of a window, in tokens.
        shift: by how many tokens the map is rolled; zeros in a block without shift.
        stride: pixels of the image per token.
        pad_first: whether the map is padded before it is rolled.

    Returns:
        Centers (windows, T, 2) in pixels, and (windows, T) bool with False for padding, or None without padding.
        Both are cached and must not be changed.
    """
    whole = [cells + -cells % size for cells, size in zip(grid, window, strict=True)]
    # Source row and column of every position; padding has indices outside of the map.
    sources = []
    for cells, padded, roll in zip(grid, whole, shift, strict=True):
        source = torch.arange(padded)
        length = padded if pad_first else cells
        source[:length] = source[:length].roll(-roll)
        sources.append(source)
    places = torch.cartesian_prod(*sources).view(*whole, 2)
    # (rows of windows, window height, columns of windows, window width, 2) -> (windows, T, 2)
    parts = places.view(whole[0] // window[0], window[0], whole[1] // window[1], window[1], 2)
    parts = parts.transpose(1, 2).reshape(-1, window[0] * window[1], 2)
    real = (parts < torch.tensor(grid)).all(dim=-1)
    return (parts + 0.5) * stride, None if real.all() else real


def windows_on_map(values: Tensor, positions: Tensor, real: Tensor | None, grid: tuple[int, int]) -> Tensor:
    """Rearranges values per token of windows to maps of the images.

    Args:
        values: (W, N, T), for W windows of B images.
        positions: (W, T, 2), as in :class:`AttentionMaps`.
        real: (W, T) bool or None, likewise.
        grid: (h, w) of the map.

    Returns:
        (B, N, h * w).
    """
    height, width = grid
    kept = torch.ones(values.shape[::2], dtype=torch.bool, device=values.device) if real is None else real
    cells = height * width
    images = int(kept.sum()) // cells
    # Tokens lie on a regular grid: the rank of a y (x) position among all is its row (column) on the map.
    rows = torch.unique(positions[..., 0][kept], return_inverse=True)[1]
    columns = torch.unique(positions[..., 1][kept], return_inverse=True)[1]
    index = rows * width + columns
    index = index + cells * torch.arange(images, device=values.device).repeat_interleave(cells)
    flat = values.transpose(1, 2)[kept]  # (B * h * w, N)
    result = torch.empty_like(flat)
    result[index] = flat
    return result.view(images, cells, -1).transpose(1, 2)


def received_attention(maps: AttentionMaps, score: str = 'class_token') -> Tensor:
    """Attention that each patch receives from the class token, or without one averaged over all patches as queries.

    Args:
        maps: attention of one block. In a Swin the average is over the queries of the same window, without padding.
        score: 'received' for the average over patches even if there is a class token.

    Returns:
        (B, N, h, w) float32; a head (in a Swin, a window of a head) sums to one minus the attention to other tokens.
    """
    weights, real = maps.weights, maps.real
    grid = maps.grid
    if grid is None:  # from the positions, for which the host waits
        seen = maps.positions if real is None else maps.positions[real]
        grid = len(seen[..., 0].unique()), len(seen[..., 1].unique())
    if maps.class_token and score == 'class_token':
        received = weights[:, :, 0, maps.extra :]
    elif real is None:
        received = weights[:, :, maps.extra :, maps.extra :].mean(dim=2)
    else:
        share = real / real.sum(dim=-1, keepdim=True).clamp_min(1)
        received = (weights * share[:, None, :, None]).sum(dim=2)
    if maps.positions.ndim == 3:
        received = windows_on_map(received, maps.positions, real, grid)
    return received.unflatten(-1, grid)
