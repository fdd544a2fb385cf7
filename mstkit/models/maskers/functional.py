"""Masking as functions of tensors; the maskers add arguments and random generators to them."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from mstkit.errors import UsageError
from mstkit.structures import MaskContext


def importance_of(attention: Tensor, exclude_cls_key: bool = False) -> Tensor:
    """Importance of each patch: its attention averaged over heads (MST eq. 4).

    Args:
        attention: (B, N, L), per head, from a softmax over patches and class token as in MST's algorithm 1.
        exclude_cls_key: renormalize each head to a sum of 1 over the patches, which is a softmax over the patches alone
            as in MST's text. The two differ by a factor per head, so the ranking of the mean over heads can differ.

    Returns:
        (B, L) float32.
    """
    attention = attention.float()
    if exclude_cls_key:
        attention = attention / attention.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return attention.mean(dim=1)


def cell_means(values: Tensor, grid: tuple[int, int], cell: int) -> Tensor:
    """Averages values over squares of patches.

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
    # (B, N, h*w) -> (B, N, h/cell, cell, w/cell, cell) -> (B, N, h/cell, w/cell) -> (B, N, h*w/cell²)
    return values.view(*values.shape[:2], height, cell, width, cell).mean(dim=(3, 5)).flatten(2)


def coarser(context: MaskContext, cell: int) -> MaskContext:
    """The context on the coarser grid of squares of ``cell`` x ``cell`` patches, scores and tokens averaged.

    Raises:
        UsageError: a grid that is no multiple of ``cell``.
    """
    if cell == 1:
        return context
    grid, tokens, scores = context.grid, context.tokens, context.scores
    if grid[0] % cell or grid[1] % cell:
        raise UsageError(
            f'a grid of {grid[0]}x{grid[1]} patches cannot be masked in squares of {cell}x{cell}: use another view '
            'size, or another mask_patch_size'
        )
    if tokens is not None:
        tokens = cell_means(tokens.transpose(1, 2), grid, cell).transpose(1, 2)
    if scores is not None:
        scores = cell_means(scores, grid, cell)
    return MaskContext(context.images, (grid[0] // cell, grid[1] // cell), tokens, scores)


def lowest(importance: Tensor, count: int) -> Tensor:
    """Marks the ``count`` least important patches of each image; among equals, those that come first.

    Args:
        importance: (B, L).
        count: 0 to L.

    Returns:
        (B, L) bool with exactly ``count`` True in each row.
    """
    return ranks(importance) < count


def bernoulli(shape: tuple[int, ...], prob: float, generator: Generator, device: torch.device) -> Tensor:
    """Hides each patch independently with the same probability (MST eq. 3).

    Returns:
        Bool tensor of the given shape.
    """
    return torch.rand(shape, generator=generator, device=device) < prob


def ranks(values: Tensor) -> Tensor:
    """Rank of each patch in its image, 0 for the smallest value; among equals, the first comes first.

    Args:
        values: (B, L).

    Returns:
        (B, L) int64, each row a permutation of 0..L-1.
    """
    order = torch.argsort(values, dim=-1, stable=True)
    places = torch.arange(values.shape[1], device=values.device).expand_as(order)
    return torch.empty_like(order).scatter_(-1, order, places)


def uniform_places(shape: tuple[int, int], generator: Generator, device: torch.device) -> Tensor:
    """Random ranks of the patches of each image; the patches of rank below k are a uniformly random subset of k.

    Args:
        shape: (B, L).
        generator: on ``device``.
        device: of the result.

    Returns:
        (B, L) int64, each row a permutation of 0..L-1.
    """
    return ranks(torch.rand(shape, generator=generator, device=device))


def weighted_places(logits: Tensor, generator: Generator) -> Tensor:
    """Random ranks in which patches are drawn one after another without replacement, in proportion to exp(logits).

    Patches in the order of independent exponential arrival times, each with its weight as rate, are such draws (Gumbel
    top-k; Kool et al., arXiv 1903.06059), so all images are drawn at once.

    Args:
        logits: (B, L), finite; the logarithms of the weights, up to a constant of each image.
        generator: on the device of the logits.

    Returns:
        (B, L) int64, each row a permutation of 0..L-1; the patch of rank 0 is drawn first.
    """
    draw = torch.rand(logits.shape, generator=generator, device=logits.device)
    return ranks((-draw.log()).log() - logits)  # of arrival times -log(u) / w; u = 0 arrives last


def places_by_importance(importance: Tensor, direction: str, generator: Generator) -> Tensor:
    """Random ranks in which patches are drawn in proportion to their importance a, or to 1 / a.

    Importance below the smallest normal float32 (1.2e-38), zero above all, counts as that number.

    Args:
        importance: (B, L) float32.
        direction: 'most' in proportion to a, 'least' to 1 / a.
        generator: on the device of the importance.

    Returns:
        (B, L) int64, see :func:`weighted_places`.
    """
    logits = importance.clamp_min(torch.finfo(importance.dtype).tiny).log()
    return weighted_places(logits if direction == 'most' else -logits, generator)


def draw_rectangles(
    areas: tuple[float, Tensor],
    aspect: tuple[float, float],
    grid: tuple[int, int],
    generator: Generator,
) -> Tensor:
    """Draws one rectangle for each image, uniformly among the positions where it fits the grid.

    Args:
        areas: the smallest area and, (B, 1), the largest area of each image, in patches; drawn uniformly in between.
        aspect: lowest and highest ratio of height to width, drawn uniformly on a logarithmic scale.
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
    return placed_rectangles(tall, wide, (draw[:, 2:3], draw[:, 3:]), grid)


def placed_rectangles(tall: Tensor, wide: Tensor, draw: tuple[Tensor, Tensor], grid: tuple[int, int]) -> Tensor:
    """Rectangles of given sizes, each uniformly among the positions where it fits the grid.

    Args:
        tall: (..., 1), whole numbers of rows, 1 to h.
        wide: (..., 1), of columns, 1 to w.
        draw: (..., 1) each, uniform in [0, 1): for row and column.
        grid: (h, w).

    Returns:
        (..., h, w) bool.
    """
    height, width = grid
    top, left = (draw[0] * (height - tall + 1)).floor(), (draw[1] * (width - wide + 1)).floor()
    rows, columns = torch.arange(height, device=tall.device), torch.arange(width, device=tall.device)
    in_rows = (rows >= top) & (rows < top + tall)  # (..., h)
    in_columns = (columns >= left) & (columns < left + wide)  # (..., w)
    return in_rows.unsqueeze(-1) & in_columns.unsqueeze(-2)


def blocks(
    counts: Tensor,
    grid: tuple[int, int],
    min_block: int,
    aspect: tuple[float, float],
    generator: Generator,
    rounds: int = 12,
    max_block: int | None = None,
) -> Tensor:
    """Hides ``counts`` patches of each image in rectangular blocks.

    BEiT's and iBOT's loop over rectangles, for all images at once and with a bounded number of rounds. Each round draws
    a rectangle of ``min_block`` patches up to the number still to hide, or ``max_block``; if it would hide too many,
    only its first patches (row by row) are hidden. Patches that are still missing after the last round are drawn at
    random: on 14x14 none of 75, but 3 of 147 on average.

    Args:
        counts: (B, 1) int64, 0 to h*w.
        grid: (h, w).
        min_block: smallest area of a rectangle.
        aspect: see :func:`draw_rectangles`.
        generator: on the device of the counts.
        rounds: maximum number of rectangles per image.
        max_block: largest area of a rectangle; None for no limit but the number still to hide.

    Returns:
        (B, h*w) bool with exactly ``counts`` True in each row.
    """
    hidden = torch.zeros((len(counts), grid[0] * grid[1]), dtype=torch.bool, device=counts.device)
    for _ in range(rounds):
        left = counts - hidden.sum(dim=1, keepdim=True)
        largest = left if max_block is None else left.clamp(max=max_block)
        fresh = draw_rectangles((float(min_block), largest), aspect, grid, generator).flatten(1) & ~hidden
        hidden |= fresh & (fresh.cumsum(dim=1) <= left)
    return with_random(hidden, counts - hidden.sum(dim=1, keepdim=True), generator)


def with_random(hidden: Tensor, counts: Tensor, generator: Generator) -> Tensor:
    """Hides further patches of each image, uniformly at random.

    Args:
        hidden: (B, L) bool.
        counts: (B, 1) int64, how many more; at most as many as are not hidden.
        generator: on the device of the mask.

    Returns:
        (B, L) bool.
    """
    chance = torch.rand(hidden.shape, generator=generator, device=hidden.device)
    return hidden | (ranks(chance + hidden) < counts)


def shuffled(hidden: Tensor, thrown: Tensor | None, generator: Generator) -> tuple[Tensor, Tensor | None]:
    """Moves the patches of each image to random places, by a permutation of its own.

    Args:
        hidden: (B, L) bool.
        thrown: likewise, or None; moved by the same permutation.
        generator: on the device of the mask.

    Returns:
        Both, with as many True in each row as before.
    """
    order = torch.rand(hidden.shape, generator=generator, device=hidden.device).argsort(dim=1)
    return hidden.gather(1, order), None if thrown is None else thrown.gather(1, order)


def rolled(hidden: Tensor, grid: tuple[int, int], generator: Generator) -> Tensor:
    """Shifts the mask of each image cyclically along both axes of the grid, by offsets of its own.

    Offsets are uniform in 0..h-1 and 0..w-1; what leaves the grid on one side comes back on the other.

    Args:
        hidden: (B, h*w) bool.
        grid: (h, w).
        generator: on the device of the mask.

    Returns:
        (B, h*w) bool, as many True in each row as before.
    """
    height, width = grid
    draw = torch.rand((len(hidden), 2), generator=generator, device=hidden.device)
    down, right = (draw[:, :1] * height).long(), (draw[:, 1:] * width).long()  # (B, 1) both
    rows = (torch.arange(height, device=hidden.device) - down) % height  # (B, h), the row that each row is taken from
    columns = (torch.arange(width, device=hidden.device) - right) % width  # (B, w)
    source = rows[:, :, None] * width + columns[:, None, :]  # (B, h, w)
    return hidden.gather(1, source.flatten(1))
