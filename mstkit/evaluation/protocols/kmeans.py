"""k-means on CPU or GPU, in chunks of rows, so that not all distances are in memory at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.utils.checks import check_count

ROWS = 8192  # rows per chunk


class KMeans(NamedTuple):
    """The result of k-means.

    Attributes:
        centers: (K, D) float32.
        assignment: (M,) int64, the nearest center of each row.
        inertia: the sum of the squared distances of rows to their nearest centers.
        iterations: the number of iterations.
    """

    centers: Tensor
    assignment: Tensor
    inertia: float
    iterations: int


@torch.no_grad()
def k_means(
    rows: Tensor,
    clusters: int,
    seed: int = 0,
    restarts: int = 1,
    iterations: int = 100,
    device: torch.device | str = 'cpu',
) -> KMeans:
    """Lloyd's algorithm with k-means++ initialization (Arthur & Vassilvitskii, SODA 2007); the best of several starts.

    It ends when no row changes its cluster. A cluster that loses all its rows is moved to the row that is farthest
    from its own center.

    Args:
        rows: (M, D), on any device.
        clusters: K, at most M.
        seed: of the random initialization.
        restarts: number of starts; the one with the smallest inertia is returned.
        iterations: maximum per start.
        device: for the computation.

    Raises:
        UsageError: fewer rows than clusters, or a count below 1.
    """
    for name, value in (('clusters', clusters), ('restarts', restarts), ('iterations', iterations)):
        check_count(f'k-means: {name}', value, 1)
    if len(rows) < clusters:
        raise UsageError(f'k-means with {clusters} clusters needs as many images, and there are {len(rows)}.')
    rows = rows.to(device).float()
    generator = torch.Generator().manual_seed(seed)
    runs = (_lloyd(rows, _initial_centers(rows, clusters, generator), iterations) for _ in range(restarts))
    return min(runs, key=lambda run: run.inertia)


def _initial_centers(rows: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """k-means++: each further center is a row, drawn in proportion to its squared distance to the centers so far."""
    chosen = [int(torch.randint(len(rows), (), generator=generator))]
    distance = _to_one(rows, chosen[0])
    while len(chosen) < clusters:
        total = distance.double().cumsum(0)
        # If all rows coincide with centers (total[-1] = 0), the last row is chosen.
        draw = torch.rand((), generator=generator, dtype=torch.float64).to(rows.device) * total[-1]
        chosen_row = int(torch.searchsorted(total, draw, right=True).clamp(max=len(rows) - 1))
        chosen.append(chosen_row)
        distance = torch.minimum(distance, _to_one(rows, chosen_row))
    return rows[torch.tensor(chosen, device=rows.device)].clone()


def _to_one(rows: Tensor, index: int) -> Tensor:
    """(M,) squared distances of all rows to row ``index``."""
    return (rows - rows[index]).square().sum(dim=1)


def _lloyd(rows: Tensor, centers: Tensor, iterations: int) -> KMeans:
    assignment, distance = _nearest(rows, centers)
    moved = 0
    while moved < iterations:
        centers = _means(rows, assignment, distance, len(centers))
        before = assignment
        assignment, distance = _nearest(rows, centers)
        moved += 1
        if torch.equal(before, assignment):
            break
    return KMeans(centers, assignment.cpu(), float(distance.double().sum()), moved)


def _nearest(rows: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest center of each row, and its squared distance; each (M,)."""
    found = [torch.cdist(part, centers).min(dim=1) for part in rows.split(ROWS)]
    return torch.cat([part.indices for part in found]), torch.cat([part.values for part in found]).square()


def _means(rows: Tensor, assignment: Tensor, distance: Tensor, clusters: int) -> Tensor:
    """The mean of each cluster; an empty one gets a row that is far from its own center."""
    sums = torch.zeros(clusters, rows.shape[1], dtype=torch.float64, device=rows.device)
    for part, members in zip(rows.split(ROWS), assignment.split(ROWS), strict=True):
        sums.index_add_(0, members, part.double())
    counts = assignment.bincount(minlength=clusters)
    centers = (sums / counts.clamp(min=1)[:, None]).float()
    empty = torch.nonzero(counts == 0).flatten()
    if len(empty):
        centers[empty] = rows[distance.topk(len(empty)).indices]
    return centers
