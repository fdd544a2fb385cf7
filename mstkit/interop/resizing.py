"""Brings the tensors of a checkpoint that depend on image, window or patch size to those of another network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from mmpretrain.models.utils import resize_relative_position_bias_table
from timm.layers import resample_patch_embed
from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.interop.literal_config import parse_config_text
from mstkit.structures import PositionsOnGrid, PositionsWithOffset, TableOnGrid
from mstkit.utils import relative_positions
from mstkit.utils.position_interpolation import resize_positions
from mstkit.utils.relative_positions import Grid, interp2d_of_scipy, resize_square_table

POSITIONS = ('pos_embed', 'absolute_pos_embed')
PATCHES = 'patch_embed.projection.weight'
TABLE = '.relative_position_bias_table'


class Sizes(NamedTuple):
    """What is known of the network that a tensor comes from.

    Attributes:
        grid: (h, w), patches of its images; None takes square grids for granted.
        class_token: whether it has one.
    """

    grid: Grid | None
    class_token: bool


def resize_tensor(name: str, value: Tensor, module: nn.Module, wanted: Tensor, source: Sizes) -> Tensor | None:
    """A tensor of a checkpoint in the shape that a network has for it.

    Positions are interpolated on the grid of patches, as the network does it by ``interpolate_mode`` and, where it has
    one, ``interpolate_offset`` (0.1 for DINO's); tables of relative positions by BEiT's geometric spline; the patch
    embedding so that a resized patch is embedded as the patch was (the pseudo-inverse of resizing, Beyer et al.,
    FlexiViT, CVPR 2023). Whatever has the wanted shape, and every other tensor, is returned as it is.

    Args:
        name: of the tensor, as mstkit's.
        value: of the checkpoint.
        module: the network.
        wanted: the network's own tensor of that name.
        source: of the network that the checkpoint was made with.

    Returns:
        The tensor, which may have another shape than is wanted where it cannot be resized; None if its grid is neither
        known nor square.
    """
    if name in POSITIONS and value.shape[::2] == wanted.shape[::2]:
        own_token = name == 'pos_embed' and 'cls_token' in module.state_dict()
        extra = int(name == 'pos_embed' and source.class_token)
        return _positions(module, value, wanted.shape[1] - own_token, extra, source.grid)
    if value.shape == wanted.shape:
        return value
    if name.endswith(TABLE) and value.shape[1:] == wanted.shape[1:]:
        target = module.table_grid if isinstance(module, TableOnGrid) else None
        given = source.grid if target is not None else None  # of a Swin, tables are of windows
        return resize_bias_table(value, len(wanted), target, given)
    if name == PATCHES and value.shape[:2] == wanted.shape[:2]:
        return resample_patch_embed(value, list(wanted.shape[2:]))
    return value


def sizes_of(checkpoint: Mapping[str, Any], state: Mapping[str, Tensor]) -> Sizes:
    """What a checkpoint says of the sizes that its network was made for.

    Args:
        checkpoint: of which the config counts.
        state: tensors of the network.
    """
    class_token = 'cls_token' in state
    try:
        backbone = parse_config_text(checkpoint['meta']['cfg'])['model']['backbone']
        image, patch = (_pair(backbone[key]) for key in ('img_size', 'patch_size'))
    except (KeyError, TypeError, AttributeError, ValueError, UsageError):
        return Sizes(None, class_token)
    grid = image[0] // patch[0], image[1] // patch[1]
    positions = next((state[name] for name in POSITIONS if name in state), None)
    of_grid = positions is None or positions.shape[1] - class_token == grid[0] * grid[1]
    return Sizes(grid if of_grid else None, class_token)


def _pair(value: Any) -> Grid:
    sides = (value, value) if isinstance(value, int) else tuple(value)
    return int(sides[0]), int(sides[1])


def square_side(count: int) -> int | None:
    """The side of a square grid of ``count`` cells; None if ``count`` is no square number."""
    side = math.isqrt(max(count, 0))
    return side if side and side * side == count else None


def _positions(module: nn.Module, positions: Tensor, cells: int, extra: int, source: Grid | None) -> Tensor | None:
    """Position embeddings (1, E + s*t, C) on the module's grid; None if a grid is neither known nor square."""
    side = square_side(cells)
    placed = isinstance(module, PositionsOnGrid)
    grid: Any = module.patch_resolution if placed else side and (side, side)
    if source is None and (square := square_side(positions.shape[1] - extra)) is not None:
        source = square, square
    if grid is None or source is None:
        return None
    mode = str(module.interpolate_mode) if placed else 'bicubic'
    offset = module.interpolate_offset if isinstance(module, PositionsWithOffset) else 0.0
    return resize_positions(positions, source, tuple(grid), extra, mode, offset)


def resize_bias_table(
    table: Tensor, length: int, grid: Grid | None = None, source: Grid | None = None
) -> Tensor | None:
    """Interpolates a relative position bias table for another window or grid.

    Args:
        table: ((2h-1)(2w-1), N), for windows of h*w tokens; three rows more with entries of a class token.
        length: number of rows wanted.
        grid: (h, w) of the module, for a table with entries of a class token; None for a square grid.
        source: (h, w) of the table; None for a square grid.

    Returns:
        (length, N), or None if one of the two tables is not that of a window that is known or square.
    """
    if source is not None and grid is not None and source[0] != source[1]:
        for class_token in (False, True):
            lengths = [relative_positions.table_length(one, class_token) for one in (source, grid)]
            if lengths == [len(table), length]:
                return relative_positions.resize_bias_table(table, source, grid)
    if (resized := resize_square_table(table, length, grid)) is not None:
        return resized
    given, target = square_side(len(table)), square_side(length)
    if given is None or target is None or given < 3 or given % 2 == 0 or target % 2 == 0:
        return None
    with interp2d_of_scipy():
        return resize_relative_position_bias_table(given, target, table.cpu(), table.shape[1]).to(table)
