"""Positions of a backbone that was trained at one size, for one of another: pure functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import scipy  # its parts are loaded when they are first used
from mmpretrain.models.utils import resize_relative_position_bias_table
from torch import Tensor

from mstkit.utils.position_interpolation import resize_positions


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


def resize_bias_table(table: Tensor, length: int) -> Tensor | None:
    """Interpolates a table of relative-position biases for another window.

    Args:
        table: ((2w-1)**2, N), of windows of w*w.
        length: (2v-1)**2 wanted.

    Returns:
        (length, N), or None where one of the two is not a table of square windows.
    """
    source, target = square_side(len(table)), square_side(length)
    if source is None or target is None or source < 3 or source % 2 == 0 or target % 2 == 0:
        return None
    with _interp2d():
        return resize_relative_position_bias_table(source, target, table.cpu(), table.shape[1]).to(table)


def _spline(x: Any, y: Any, z: np.ndarray, kind: str) -> Callable[[Any, Any], np.ndarray]:
    """What ``interp2d`` did on a regular grid, as SciPy's guide for its removal says."""
    degree = min({'linear': 1, 'cubic': 3}[kind], len(x) - 1)
    spline = scipy.interpolate.RectBivariateSpline(x, y, z.T, kx=degree, ky=degree)
    return lambda new_x, new_y: spline(new_x, new_y).T


@contextmanager
def _interp2d() -> Iterator[None]:
    """Gives mmpretrain the function that it asks SciPy for, which SciPy 1.14 removed."""
    interpolate = scipy.interpolate
    before = getattr(interpolate, 'interp2d', None)
    interpolate.interp2d = _spline
    try:
        yield
    finally:
        if before is None:
            del interpolate.interp2d
        else:
            interpolate.interp2d = before
