"""Resizes position embeddings and bias tables of a checkpoint to another image size."""

from __future__ import annotations

import math

from mmpretrain.models.utils import resize_relative_position_bias_table
from torch import Tensor

from mstkit.utils.position_interpolation import resize_positions
from mstkit.utils.relative_positions import interp2d_of_scipy, resize_square_table


def square_side(count: int) -> int | None:
    """The side of a square grid of ``count`` cells; None if ``count`` is no square number."""
    side = math.isqrt(max(count, 0))
    return side if side and side * side == count else None


def resize_square_positions(
    positions: Tensor, grid: tuple[int, int], extra_tokens: int, mode: str, offset: float = 0.0
) -> Tensor | None:
    """:func:`mstkit.utils.position_interpolation.resize_positions` for positions (1, E + s*s, C) of a square grid.

    Returns:
        (1, E + h*w, C), or None if the number of positions is no square, so that the grid is unknown.
    """
    side = square_side(positions.shape[1] - extra_tokens)
    if side is None:
        return None
    return resize_positions(positions, (side, side), grid, extra_tokens, mode, offset)


def resize_bias_table(table: Tensor, length: int, grid: tuple[int, int] | None = None) -> Tensor | None:
    """Interpolates a relative position bias table for another window or grid.

    Args:
        table: ((2w-1)**2, N), for windows of w*w tokens; three rows more with entries of a class token.
        length: number of rows wanted, (2v-1)**2, or three more.
        grid: (h, w) of the module, for a table with entries of a class token; None for a square grid.

    Returns:
        (length, N), or None if one of the two tables is not that of a square window.
    """
    if (resized := resize_square_table(table, length, grid)) is not None:
        return resized
    source, target = square_side(len(table)), square_side(length)
    if source is None or target is None or source < 3 or source % 2 == 0 or target % 2 == 0:
        return None
    with interp2d_of_scipy():
        return resize_relative_position_bias_table(source, target, table.cpu(), table.shape[1]).to(table)
