"""Masks as pure functions of tensors; the modules beside this file add a configuration and a source of randomness."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from mstkit.errors import UsageError
from mstkit.structures import MaskContext


def importance_of(attention: Tensor, exclude_cls_key: bool = False) -> Tensor:
    """How much each patch matters: its attention, mean over heads (MST eq. 4).

    Args:
        attention: (B, N, L), per head.
        exclude_cls_key: the paper's text takes the softmax over the patches alone, its algorithm 1 over the patches
            and the class token; the two differ by a factor per head, so the mean over heads can rank differently.
            True renormalizes each head to the patches alone.

    Returns:
        (B, L) float32.
    """
    attention = attention.float()
    if exclude_cls_key:
        attention = attention / attention.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return attention.mean(dim=1)


def cell_means(values: Tensor, grid: tuple[int, int], cell: int) -> Tensor:
    """Means over squares of patches, on the grid of these squares.

    Args:
        values: (B, N, h*w), row-major.
        grid: (h, w), multiples of ``cell``.
        cell: patches along a side of a square.

    Returns:
        (B, N, h*w / cell²).
    """
    if cell == 1:
        return values
    height, width = grid[0] // cell, grid[1] // cell
    return values.view(*values.shape[:2], height, cell, width, cell).mean(dim=(3, 5)).flatten(2)


def coarser(context: MaskContext, cell: int) -> MaskContext:
    """The same images on a grid of squares of ``cell`` x ``cell`` patches, which are hidden or shown as one.

    Raises:
        UsageError: a grid that is no multiple of ``cell``.
    """
    if cell == 1:
        return context
    grid, tokens, scores = context.grid, context.tokens, context.scores
    if grid[0] % cell or grid[1] % cell:
        raise UsageError(f'{grid[0]}x{grid[1]} patches cannot be hidden {cell}x{cell} at a time: use other views')
    if tokens is not None:
        tokens = cell_means(tokens.transpose(1, 2), grid, cell).transpose(1, 2)
    if scores is not None:
        scores = cell_means(scores, grid, cell)
    return MaskContext(context.images, (grid[0] // cell, grid[1] // cell), tokens, scores)


def lowest(importance: Tensor, count: int) -> Tensor:
    """Marks the ``count`` least important patches of each image; of equals, those that come first.

    Args:
        importance: (B, L).
        count: 0 to L.

    Returns:
        (B, L) bool with exactly ``count`` True in each row.
    """
    return ranks(importance) < count


def bernoulli(shape: tuple[int, ...], prob: float, generator: Generator, device: torch.device) -> Tensor:
    """Hides each patch by itself with the same probability (MST eq. 3).

    Returns:
        Bool tensor of the given shape.
    """
    return torch.rand(shape, generator=generator, device=device) < prob


def ranks(values: Tensor) -> Tensor:
    """The place of each patch among its image's, 0 for the smallest value; of equals, the first comes first.

    Args:
        values: (B, L).

    Returns:
        (B, L) int64, each row a permutation of 0..L-1.
    """
    order = torch.argsort(values, dim=-1, stable=True)
    places = torch.arange(values.shape[1], device=values.device).expand_as(order)
    return torch.empty_like(order).scatter_(-1, order, places)


def uniform_places(shape: tuple[int, int], generator: Generator, device: torch.device) -> Tensor:
    """Orders the patches of each image at random; the first k of them are a set of k, each set equally likely.

    Args:
        shape: (B, L).
        generator: on ``device``.
        device: where the places are needed.

    Returns:
        (B, L) int64, each row a permutation of 0..L-1.
    """
    return ranks(torch.rand(shape, generator=generator, device=device))


def draw_rectangles(
    areas: tuple[float, Tensor],
    aspect: tuple[float, float],
    grid: tuple[int, int],
    generator: Generator,
) -> Tensor:
    """Draws one rectangle for each image, at every place of the grid where it fits, the borders included.

    Args:
        areas: the smallest and, (B, 1), the largest area in cells; drawn evenly between them.
        aspect: lowest and highest ratio of height to width, drawn evenly on a logarithmic scale.
        grid: (h, w).
        generator: on the device of the areas.

    Returns:
        (B, h, w) bool, one rectangle each.
    """
    low, high = areas
    height, width = grid
    draw = torch.rand((len(high), 4), generator=generator, device=high.device)
    area = low + draw[:, :1] * (high.float() - low).clamp_min(0)
    start, end = math.log(aspect[0]), math.log(aspect[1])
    ratio = torch.exp(start + draw[:, 1:2] * (end - start))
    tall = (area * ratio).sqrt().round().clamp(1, height)
    wide = (area / ratio).sqrt().round().clamp(1, width)
    top = (draw[:, 2:3] * (height - tall + 1)).floor()
    left = (draw[:, 3:] * (width - wide + 1)).floor()
    rows = torch.arange(height, device=high.device)
    columns = torch.arange(width, device=high.device)
    in_rows = (rows >= top) & (rows < top + tall)
    in_columns = (columns >= left) & (columns < left + wide)
    return in_rows.unsqueeze(2) & in_columns.unsqueeze(1)


def blocks(
    counts: Tensor,
    grid: tuple[int, int],
    min_block: int,
    aspect: tuple[float, float],
    generator: Generator,
    rounds: int = 12,
) -> Tensor:
    """Hides ``counts`` cells of each image in rectangular blocks.

    BEiT's and iBOT's loop over rectangles, for all images at once and with an end: each of ``rounds`` rounds draws a
    rectangle between ``min_block`` cells and what is left; of one that would hide too many, the first cells (row by
    row) are taken. Cells that are still missing after the last round (few, seldom) are taken at random.

    Args:
        counts: (B, 1) int64, 0 to h*w.
        grid: (h, w).
        min_block: smallest area of a rectangle.
        aspect: see :func:`draw_rectangles`.
        generator: on the device of the counts.
        rounds: rectangles per image, at most.

    Returns:
        (B, h*w) bool with exactly ``counts`` True in each row.
    """
    hidden = torch.zeros((len(counts), grid[0] * grid[1]), dtype=torch.bool, device=counts.device)
    for _ in range(rounds):
        left = counts - hidden.sum(dim=1, keepdim=True)
        fresh = draw_rectangles((float(min_block), left), aspect, grid, generator).flatten(1) & ~hidden
        hidden |= fresh & (fresh.cumsum(dim=1) <= left)
    left = counts - hidden.sum(dim=1, keepdim=True)
    chance = torch.rand(hidden.shape, generator=generator, device=hidden.device)
    return hidden | (ranks(chance + hidden) < left)
