"""k-means on a device, with memory bounded by the number of clusters and not by that of the pairs."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.utils.checks import check_count

ROWS = 8192  # compared with all centers at once


class KMeans(NamedTuple):
    """What came of it.

    Attributes:
        centers: (K, D) float32.
        assignment: (M,) int64, the nearest center of each row.
        inertia: the sum of the squared distances to it.
        iterations: how many times the centers moved.
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
    """Lloyd's algorithm from k-means++'s centers (Arthur & Vassilvitskii, SODA 2007); the best of several starts.

    It ends when no row changes its cluster. A cluster that loses all its rows begins again at the row that is
    farthest from its own center.

    Args:
        rows: (M, D), on any device.
        clusters: K, at most M.
        seed: of the draws.
        restarts: how many starts; the smallest inertia is kept.
        iterations: at most so many per start.
        device: where to compute.

    Raises:
        UsageError: fewer rows than clusters, or a count below 1.
    """
    for name, value in (('clusters', clusters), ('restarts', restarts), ('iterations', iterations)):
        check_count(f'k-means: {name}', value, 1)
    if len(rows) < clusters:
        raise UsageError(f'k-means with {clusters} clusters needs as many images, and there are {len(rows)}.')
    rows = rows.to(device).float()
    generator = torch.Generator().manual_seed(seed)
    runs = (_lloyd(rows, _spread_out(rows, clusters, generator), iterations) for _ in range(restarts))
    return min(runs, key=lambda run: run.inertia)


def _spread_out(rows: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """k-means++: each further center is a row, drawn in proportion to its squared distance to the centers so far."""
    chosen = [int(torch.randint(len(rows), (), generator=generator))]
    distance = _to_one(rows, chosen[0])
    while len(chosen) < clusters:
        total = distance.double().cumsum(0)
        # Where all rows coincide with a center, any row will do.
        draw = torch.rand((), generator=generator, dtype=torch.float64).to(rows.device) * total[-1]
        place = int(torch.searchsorted(total, draw, right=True).clamp(max=len(rows) - 1))
        chosen.append(place)
        distance = torch.minimum(distance, _to_one(rows, place))
    return rows[torch.tensor(chosen, device=rows.device)].clone()


def _to_one(rows: Tensor, place: int) -> Tensor:
    """(M,) squared distances to one of the rows."""
    return (rows - rows[place]).square().sum(dim=1)


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
    for part, places in zip(rows.split(ROWS), assignment.split(ROWS), strict=True):
        sums.index_add_(0, places, part.double())
    counts = assignment.bincount(minlength=clusters)
    centers = (sums / counts.clamp(min=1)[:, None]).float()
    empty = torch.nonzero(counts == 0).flatten()
    if len(empty):
        centers[empty] = rows[distance.topk(len(empty)).indices]
    return centers
