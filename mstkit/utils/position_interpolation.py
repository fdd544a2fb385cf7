"""Interpolation of position embeddings to another grid of patches."""

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
    """Interpolates position embeddings; those of extra tokens, which come first, are not changed.

    Args:
        positions: (1, E + s*t, C).
        source: (s, t), their grid.
        grid: (h, w) wanted.
        extra_tokens: E, 1 with a class token.
        mode: of torch's ``interpolate``.
        offset: added to h and w before dividing by s and t. DINO's code (``interpolate_pos_encoding``), and likewise
            iBOT's, AttMask's and DINOv2's without registers, adds 0.1 against rounding errors and passes the quotients
            to torch as ``scale_factor``, so that samples are slightly closer together than with ``size``. 0 passes
            ``size``.

    Returns:
        (1, E + h*w, C).
    """
    if not offset or tuple(source) == tuple(grid):
        return resize_pos_embed(positions, source, grid, mode, extra_tokens)
    extra, patches = positions[:, :extra_tokens], positions[:, extra_tokens:]
    # (1, s*t, C) -> (1, C, s, t); float32, since bicubic interpolation needs it
    maps = patches.reshape(1, *source, -1).permute(0, 3, 1, 2).float()
    scale = [(wanted + offset) / given for wanted, given in zip(grid, source, strict=True)]
    resized = F.interpolate(maps, scale_factor=scale, mode=mode, align_corners=False)
    assert resized.shape[2:] == tuple(grid), f'{offset} is no offset that keeps a grid of {grid}'
    return torch.cat((extra, resized.flatten(2).transpose(1, 2).to(positions.dtype)), dim=1)
