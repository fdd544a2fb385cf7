"""Rotary positions of patches: queries and keys are turned by angles that follow from where their patches lie."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor

Grid = tuple[int, int]
ROTARY_BASE = 100.0  # DINOv3's


class Rotation(NamedTuple):
    """By how much the queries and keys of patches are turned.

    Attributes:
        cos: (L, d) float32, of the patches of all images, or (B, 1, V, d), of some patches of each; d is the channels
            of a head.
        sin: likewise.
    """

    cos: Tensor
    sin: Tensor

    def of_patches(self, places: Tensor) -> Rotation:
        """That of some of the L patches of each image, (B, V) int64."""
        return Rotation(self.cos[places].unsqueeze(1), self.sin[places].unsqueeze(1))

    def of_images(self, kept: Tensor) -> Rotation:
        """That of some of the B images, (K,) int64; of all images alike, the same."""
        if self.cos.ndim == 2:
            return self
        return Rotation(self.cos.index_select(0, kept), self.sin.index_select(0, kept))

    def turn(self, x: Tensor) -> Tensor:
        """Turns queries or keys (B, N, T, d), of which the last ones are of patches; those before have no position."""
        before = x.shape[2] - self.cos.shape[-2]
        patches = x[:, :, before:]
        first, second = patches.chunk(2, dim=-1)
        # In float32, as the angles are; only the result is rounded.
        turned = patches * self.cos + torch.cat((-second, first), dim=-1) * self.sin
        return torch.cat((x[:, :, :before], turned.to(x.dtype)), dim=2)


@functools.lru_cache(maxsize=16)
def axial_rotation(grid: Grid, channels: int, base: float, device: torch.device) -> Rotation:
    """The rotation of all patches of a grid, as in DINOv3 (Siméoni et al., arXiv 2508.10104).

    The center of a patch is at -1..1 of either side of the image, so that a larger image has a denser grid and not a
    larger one. A quarter of the channels' angles, 2π times the coordinate over periods base^(4i/d), are of the row, a
    quarter of the column; channel j and channel j + d/2 are turned together.

    Args:
        grid: (h, w) of the patches.
        channels: d, of a head; a multiple of 4.
        base: nearly the longest period over the shortest one, which is 1: half of a side.
        device: of the result, which is shared and must not be changed.
    """
    with torch.inference_mode(False):  # or no later call could train with it
        rows, columns = (2 * (torch.arange(cells, device=device) + 0.5) / cells - 1 for cells in grid)
        periods = base ** (torch.arange(channels // 4, device=device) * 4 / channels)
        angles = 2 * math.pi * torch.cartesian_prod(rows, columns).view(-1, 2, 1) / periods  # (L, 2, d/4)
        angles = angles.flatten(1).repeat(1, 2)
        return Rotation(angles.cos(), angles.sin())
