"""Fixed position embeddings made of sines and cosines."""

from __future__ import annotations

import torch
from torch import Tensor


def sincos_positions(grid: tuple[int, int], dims: int) -> Tensor:
    """Fixed position embeddings, in MAE's order: sines then cosines of the column, sines then cosines of the row.

    The C/4 frequencies of each fall from 1 to 1/10000 (MoCo v3's and MAE's code; mmpretrain's function of that name
    gives the transpose of the grid).

    Args:
        grid: (h, w).
        dims: C, a multiple of 4.

    Returns:
        (1, h*w, C) float32, row-major.
    """
    rows, columns = (torch.arange(side, dtype=torch.float64) for side in grid)
    frequencies = 10000.0 ** -(torch.arange(dims // 4, dtype=torch.float64) / (dims // 4))
    parts = []
    for places in (columns.repeat(len(rows)), rows.repeat_interleave(len(columns))):
        angles = places[:, None] * frequencies  # (L, C/4)
        parts += [angles.sin(), angles.cos()]
    return torch.cat(parts, dim=1)[None].float()
