"""Biases that depend on how far apart two patches are, of one grid of patches on another."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import scipy  # its parts are loaded when they are first used
import torch
from torch import Tensor
from torch.nn import functional as F

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)

# isort: split
from mmpretrain.models.utils import resize_relative_position_bias_table

CLASS_TOKEN_ENTRIES = 3  # from the class token to a patch, from a patch to it, from it to itself
TABLE = 'relative_position_bias_table'
SHARED_TABLE = f'rel_pos_bias.{TABLE}'  # BEiT's and mmpretrain's name
Grid = tuple[int, int]


class TokenPairs(NamedTuple):
    """Which entry of a table of biases belongs to each pair of tokens.

    Attributes:
        grid: (h, w), the patches of the image that the entries are counted for.
        entries: (T, T) or (B, T, T) int64, query by key; one past the table's end is a bias of zero.
    """

    grid: Grid
    entries: Tensor

    def of_tokens(self, places: Tensor) -> TokenPairs:
        """The pairs among some of the tokens of each image, (B, V) int64: (B, V, V)."""
        return TokenPairs(self.grid, self.entries[places[:, :, None], places[:, None, :]])

    def bias(self, table: Tensor, source: Grid) -> Tensor:
        """What is added to the logits of attention.

        Args:
            table: ((2s-1)(2t-1) + E, N), see :func:`resize_bias_table`.
            source: (s, t), the grid of the table.

        Returns:
            (N, T, T) or (B, N, T, T).
        """
        biases = F.pad(resize_bias_table(table, source, self.grid).t(), (0, 1))
        bias = biases.index_select(1, self.entries.flatten()).view(-1, *self.entries.shape)
        return bias if self.entries.ndim == 2 else bias.transpose(0, 1)


@functools.lru_cache(maxsize=16)
def token_pairs(grid: Grid, class_token: bool, registers: int, device: torch.device) -> TokenPairs:
    """The pairs of all tokens of an image, in BEiT's order (Bao et al., ICLR 2022).

    The bias of query i and key j is the entry of row_i - row_j + h-1 and column_i - column_j + w-1, row by row; after
    them come the three entries of the class token. Registers have no position, and so no bias.

    Args:
        grid: (h, w) of the patches.
        class_token: whether one comes first.
        registers: tokens between it and the patches.
        device: of the result, which is shared and must not be changed.
    """
    with torch.inference_mode(False):  # or no later call could train with it
        places = torch.cartesian_prod(*(torch.arange(cells, device=device) for cells in grid)).view(-1, 2)
        down, right = (places[:, None] - places[None]).unbind(-1)
        patches = (down + grid[0] - 1) * (2 * grid[1] - 1) + right + grid[1] - 1
        cells, first = (2 * grid[0] - 1) * (2 * grid[1] - 1), int(class_token)
        last = cells + CLASS_TOKEN_ENTRIES * first
        index = F.pad(patches, (first + registers, 0, first + registers, 0), value=last)
        if class_token:
            index[0, 1 + registers :], index[1 + registers :, 0], index[0, 0] = cells, cells + 1, cells + 2
        return TokenPairs(grid, index)


def table_length(grid: Grid, class_token: bool) -> int:
    """How many entries the table of a grid has."""
    return (2 * grid[0] - 1) * (2 * grid[1] - 1) + CLASS_TOKEN_ENTRIES * class_token


def resize_bias_table(table: Tensor, source: Grid, target: Grid) -> Tensor:
    """Interpolates a table for another grid as BEiT does for fine-tuning at another size; gradients go through.

    Near offsets stay nearly what they are, far ones are spread or cut off: a cubic spline through knots whose
    distances grow geometrically, mmpretrain's, along each side that differs.

    Args:
        table: ((2s-1)(2t-1) + E, N), of which the last E entries, the class token's, stay as they are.
        source: (s, t).
        target: (h, w) wanted.

    Returns:
        ((2h-1)(2w-1) + E, N).
    """
    if tuple(source) == tuple(target):
        return table
    old = [2 * side - 1 for side in source]
    along_rows, along_columns = (
        _resampling(2 * s - 1, 2 * t - 1, table.device) for s, t in zip(source, target, strict=True)
    )
    cells = old[0] * old[1]
    with torch.autocast(table.device.type, enabled=False):  # it would compute the entries in half precision
        values = table[:cells].float().view(*old, -1)
        resized = torch.einsum('ay,bx,yxn->abn', along_rows, along_columns, values)
    return torch.cat((resized.flatten(0, 1).to(table.dtype), table[cells:]))


def resize_square_table(
    table: Tensor, length: int, grid: Grid | None = None, class_token: bool = True
) -> Tensor | None:
    """:func:`resize_bias_table` of the table of a square grid, which its length tells.

    Args:
        table: ((2w-1)**2 + E, N).
        length: entries wanted.
        grid: (h, w) wanted; a square one where it is None.
        class_token: whether there are the entries of one, so that E is 3.

    Returns:
        (length, N), or None where one of the two is not such a table.
    """
    extra = CLASS_TOKEN_ENTRIES * class_token
    source, target = square_window(len(table) - extra), grid or square_window(length - extra)
    if source is None or target is None or table_length(target, class_token) != length:
        return None
    return resize_bias_table(table, source, target)


def fit_bias_tables(
    state: MutableMapping[str, Any], own: Mapping[str, Any], grid: Grid, class_token: bool, prefix: str = ''
) -> None:
    """Brings the tables of a state dict to those of a network.

    One that layers shared is copied to every layer where the network has a table for each, which is how BEiT and SimMIM
    start their fine-tuning; tables of another, square grid are resized.

    Args:
        state: what is loaded; changed.
        own: the network's tensors, without the prefix.
        grid: (h, w) of the network.
        class_token: whether it has one.
        prefix: of the network's names in ``state``.
    """
    spread_shared_table(state, own, prefix)
    for name in _tables(own):
        table = state.get(prefix + name)
        if table is None or table.shape == own[name].shape or table.shape[1:] != own[name].shape[1:]:
            continue
        resized = resize_square_table(table, len(own[name]), grid, class_token)
        if resized is not None:
            state[prefix + name] = resized


def spread_shared_table(state: MutableMapping[str, Any], own: Mapping[str, Any], prefix: str = '') -> None:
    """Copies a table that layers shared to every layer of a network that has a table for each; see above."""
    names = _tables(own)
    if f'{prefix}{SHARED_TABLE}' in state and names and SHARED_TABLE not in names:
        table = state.pop(f'{prefix}{SHARED_TABLE}')
        for name in names:
            state.setdefault(prefix + name, table.clone())


def _tables(own: Mapping[str, Any]) -> list[str]:
    return [name for name in own if name.endswith(f'.{TABLE}')]


def square_window(count: int) -> Grid | None:
    """The square grid whose offsets are so many, None where there is none."""
    side = math.isqrt(max(count, 0))
    return ((side + 1) // 2,) * 2 if side % 2 and side * side == count else None


@functools.lru_cache(maxsize=64)
def _resampling(source: int, target: int, device: torch.device) -> Tensor:
    """The matrix (target, source) of mmpretrain's interpolation along one side.

    The interpolation is linear in the values and the same along either side, so what it makes of values that are 1 in
    one row and 0 in the others is one column of the matrix.
    """
    with torch.inference_mode(False):
        if source == target:
            return torch.eye(source, device=device)
        if source == 1:
            return torch.ones(target, 1, device=device)
        rows = torch.eye(source).repeat_interleave(source, dim=0)
        with interp2d_of_scipy():
            made = resize_relative_position_bias_table(source, target, rows, source)
        return made.view(target, target, source)[:, 0].contiguous().to(device)


def _spline(x: Any, y: Any, z: np.ndarray, kind: str) -> Callable[[Any, Any], np.ndarray]:
    """What ``interp2d`` did on a regular grid, as SciPy's guide for its removal says."""
    degree = min({'linear': 1, 'cubic': 3}[kind], len(x) - 1)
    spline = scipy.interpolate.RectBivariateSpline(x, y, z.T, kx=degree, ky=degree)
    return lambda new_x, new_y: spline(new_x, new_y).T


@contextmanager
def interp2d_of_scipy() -> Iterator[None]:
    """Gives mmpretrain the function that it asks SciPy for, which SciPy 1.14 removed."""
    interpolate = scipy.interpolate
    before = getattr(interpolate, 'interp2d', None)  # until SciPy 1.13
    interpolate.interp2d = _spline
    try:
        yield
    finally:
        if before is None:
            del interpolate.interp2d
        else:
            interpolate.interp2d = before
