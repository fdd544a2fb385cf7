"""Positions of a backbone that was trained at one size, for one of another: pure functions."""

from __future__ import annotations

import math

from mmpretrain.models.utils import resize_relative_position_bias_table
from torch import Tensor

from mstkit.utils.position_interpolation import resize_positions
from mstkit.utils.relative_positions import interp2d_of_scipy, resize_square_table


def square_side(count: int) -> int | None:
    """The side of a square grid of so many cells, None where there is no such square."""
    side = math.isqrt(max(count, 0))
    return side if side and side * side == count else None


def resize_square_positions(
    positions: Tensor, grid: tuple[int, int], extra_tokens: int, mode: str, offset: float = 0.0
) -> Tensor | None:
    """As :func:`mstkit.utils.position_interpolation.resize_positions`, of positions (1, E + s*s, C) of a square grid.

    Returns:
        (1, E + h*w, C), or None where the grid is not a square: its sides cannot be told from its length.
    """
    side = square_side(positions.shape[1] - extra_tokens)
    if side is None:
        return None
    return resize_positions(positions, (side, side), grid, extra_tokens, mode, offset)


def resize_bias_table(table: Tensor, length: int, grid: tuple[int, int] | None = None) -> Tensor | None:
    """Interpolates a table of relative-position biases for another window or grid.

    Args:
        table: ((2w-1)**2, N), of windows of w*w; three entries more with a class token's.
        length: (2v-1)**2 wanted, or three more.
        grid: (h, w) of the module, of a table with a class token's entries; a square one where it is None.

    Returns:
        (length, N), or None where one of the two is not a table of square windows.
    """
    if (resized := resize_square_table(table, length, grid)) is not None:
        return resized
    source, target = square_side(len(table)), square_side(length)
    if source is None or target is None or source < 3 or source % 2 == 0 or target % 2 == 0:
        return None
    with interp2d_of_scipy():
        return resize_relative_position_bias_table(source, target, table.cpu(), table.shape[1]).to(table)
