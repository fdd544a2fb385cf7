"""Attention maps of known content, and the positions that go with them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import NamedTuple

import torch
from torch import Tensor


class ToyMaps(NamedTuple):
    """What ``mstkit.networks.AttentionMaps`` has."""

    block: int
    stage: int
    weights: Tensor
    positions: Tensor
    extra: int = 0
    real: Tensor | None = None


def grid(height: int, width: int, stride: float = 16.0) -> Tensor:
    """The centers of patches, row by row: (height * width, 2) in pixels."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    return (torch.stack([rows, columns], dim=-1).view(-1, 2).float() + 0.5) * stride


def random_attention(*shape: int, seed: int = 0, sharpness: float = 2.0) -> Tensor:
    """Softmaxed noise, (W, N, T, T)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.softmax(sharpness * torch.randn(*shape, shape[-1], generator=generator), dim=-1)


def vit_maps(batch: int = 3, heads: int = 4, side: int = 5, seed: int = 0, block: int = 0, extra: int = 1) -> ToyMaps:
    """A block of a ViT: random attention of a class token and side x side patches."""
    return ToyMaps(block, 0, random_attention(batch, heads, side**2 + extra, seed=seed), grid(side, side), extra)


def shifted_windows(side: int, window: int, shift: int, stride: float) -> Tensor:
    """Positions of the patches in each window of a rolled map: (windows, window², 2) in pixels, as they really are."""
    rolled = torch.roll(grid(side, side, stride).view(side, side, 2), (-shift, -shift), dims=(0, 1))
    parts = rolled.view(side // window, window, side // window, window, 2)
    return parts.permute(0, 2, 1, 3, 4).reshape(-1, window**2, 2)


def shift_regions(side: int, window: int, shift: int) -> Tensor:
    """For each window (windows, window²) the number of the region that a patch may look at, as Swin numbers them."""
    number = torch.zeros(side, side, dtype=torch.int64)
    parts = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    for index, (rows, columns) in enumerate((r, c) for r in parts for c in parts):
        number[rows, columns] = index
    view = number.view(side // window, window, side // window, window)
    return view.permute(0, 2, 1, 3).reshape(-1, window**2)


class WatchedNetwork:
    """A network of made-up blocks that can be watched as ``mstkit.networks.Network``: depth, heads and a seed."""

    def __init__(self, depth: int, seed: int, heads: int = 3, stages: tuple[int, ...] | None = None) -> None:
        self.depth, self.seed, self.heads = depth, seed, heads
        self.stages = stages or (0,) * depth
        self.passes = 0

    def watch(self, images: Tensor, on_tokens, on_attention) -> None:
        self.passes += 1
        tokens = images.flatten(2).transpose(1, 2)  # (B, 16, 3)
        for index in range(self.depth):
            generator = torch.Generator().manual_seed(100 * self.seed + index)
            tokens = torch.relu(tokens @ torch.randn(3, 3, generator=generator)) + 0.2 * tokens
            maps = vit_maps(len(images), self.heads, 4, seed=100 * self.seed + index, block=index)
            on_attention(maps._replace(stage=self.stages[index]))
            on_tokens(SimpleNamespace(index=index, stage=self.stages[index]), tokens)
