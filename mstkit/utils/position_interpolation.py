"""Position embeddings of one grid of patches on another."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)

# isort: split
from mmpretrain.models.utils import resize_pos_embed

DINO_OFFSET = 0.1


def resize_positions(
    positions: Tensor,
    source: tuple[int, int],
    grid: tuple[int, int],
    extra_tokens: int,
    mode: str = 'bicubic',
    offset: float = 0.0,
) -> Tensor:
    """Interpolates position embeddings; those of extra tokens, which come first, stay as they are.

    Args:
        positions: (1, E + s*t, C).
        source: (s, t), their grid.
        grid: (h, w) wanted.
        extra_tokens: E, 1 with a class token.
        mode: of torch's ``interpolate``.
        offset: what is added to h and w before they are divided by s and t. DINO's code
            (``interpolate_pos_encoding``), and with it iBOT's, AttMask's and DINOv2's without registers, adds 0.1 so
            that rounding does not lose a row, and gives torch the quotients as ``scale_factor``: the samples are then
            a little closer together than by the sizes themselves. 0 goes by the sizes.

    Returns:
        (1, E + h*w, C).
    """
    if not offset or tuple(source) == tuple(grid):
        return resize_pos_embed(positions, source, grid, mode, extra_tokens)
    extra, patches = positions[:, :extra_tokens], positions[:, extra_tokens:]
    maps = patches.reshape(1, *source, -1).permute(0, 3, 1, 2).float()  # bicubic wants single precision
    scale = [(wanted + offset) / given for wanted, given in zip(grid, source, strict=True)]
    resized = F.interpolate(maps, scale_factor=scale, mode=mode, align_corners=False)
    assert resized.shape[2:] == tuple(grid), f'{offset} is no offset that keeps a grid of {grid}'
    return torch.cat((extra, resized.flatten(2).transpose(1, 2).to(positions.dtype)), dim=1)
