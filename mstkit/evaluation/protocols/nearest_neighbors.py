"""The nearest of very many vectors, exactly: every pair is compared, almost none is sorted.

Picking the best k out of a block of similarities takes as long as computing them, as soon as k is a hundred or so.
Here a block is first reduced to the maxima of groups of keys, in one pass that costs next to nothing. The best k keys
lie in the k groups with the highest maxima, since each of these has a key at least as near; and once k neighbors of
a query are known, only groups whose maximum is above the query's bar, its k-th best so far, can hold a better one. So
a few groups of each query are looked at and sorted, fewer with every block: with keys in random order about k * log(M
/ k) of M keys. Where the keys are in another order, never more than k groups of a block are.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

# Queries and keys of a tile: many, so that the product runs at the machine's rate; few enough for any memory.
CPU_TILE = (1024, 8192)
GPU_TILE = (4096, 32768)
GROUP = 8  # keys that share a maximum
FEW = 16  # queries with at most so many groups to look at are not mixed with those that have more


class Neighbors(NamedTuple):
    """The nearest keys of each query, nearest first.

    Attributes:
        similarity: (Q, k) float32, cosines.
        indices: (Q, k) int64, rows of the keys.
    """

    similarity: Tensor
    indices: Tensor


@torch.no_grad()
def nearest(queries: Tensor, keys: Tensor, k: int, device: torch.device | str | None = None) -> Neighbors:
    """Finds the k keys of the highest cosine for each query.

    Memory, besides arguments and result: the queries normalized, 12 bytes for each query and neighbor, and one block
    of keys with one tile of similarities (32 MiB on a CPU). Which of several keys at the same distance are taken is not
    determined.

    Args:
        queries: (Q, D), need not be normalized.
        keys: (M, D), likewise; normalized block by block.
        k: 1 to M.
        device: where to compute; by default where the queries are.
    """
    place = queries.device if device is None else torch.device(device)
    rows, columns = CPU_TILE if place.type == 'cpu' else GPU_TILE
    unit = functional.normalize(queries.to(place).float(), dim=1)
    parts = [(part, _Best(len(part), k, place)) for part in unit.split(rows)]
    space = torch.empty(rows * columns, device=place)
    for start in range(0, len(keys), columns):
        block = functional.normalize(keys[start : start + columns].to(place).float(), dim=1)
        for part, best in parts:
            tile = space[: len(part) * len(block)].view(len(part), len(block))
            torch.mm(part, block.T, out=tile)
            best.update(tile, start)
    found = [best.sorted() for _, best in parts]
    return Neighbors(torch.cat([one.similarity for one in found]), torch.cat([one.indices for one in found]))


class _Best:
    """The best k keys of a few queries so far, in no order.

    Attributes:
        values: (q, k) float32, similarities; minus infinity where nothing is yet.
        keys: (q, k) int64, the keys that they belong to.
        bar: (q, 1) float32, the lowest of them; only a key above it can count.
    """

    def __init__(self, queries: int, k: int, device: torch.device) -> None:
        self.k = k
        self.values = torch.full((queries, k), -torch.inf, device=device)
        self.keys = torch.zeros(queries, k, dtype=torch.int64, device=device)
        self.bar = torch.full((queries, 1), -torch.inf, device=device)

    def update(self, tile: Tensor, start: int) -> None:
        """Takes in the similarities, (q, b), to the keys from ``start`` on."""
        size = GROUP if tile.shape[1] % GROUP == 0 else 1
        # Key j is in group j modulo their number, so that the maxima are those of whole rows.
        maxima = tile.unflatten(1, (size, -1)).amax(dim=1)
        counts = (maxima > self.bar).sum(dim=1)
        few = counts <= FEW
        for rows in ((few & (counts > 0)).nonzero()[:, 0], (~few).nonzero()[:, 0]):
            if len(rows):
                self._take(rows, tile, maxima[rows], min(int(counts[rows].max()), self.k), start)

    def _take(self, rows: Tensor, tile: Tensor, maxima: Tensor, width: int, start: int) -> None:
        """Looks at the ``width`` groups with the highest maxima of some queries."""
        keys, groups = tile.shape[1], maxima.shape[1]
        best = maxima.topk(width, dim=1, sorted=False).indices
        steps = torch.arange(0, keys, groups, device=tile.device)
        places = (best[:, None] + steps[:, None]).flatten(1)
        values = torch.cat([self.values[rows], tile.take(rows[:, None] * keys + places)], dim=1)
        top = values.topk(self.k, dim=1, sorted=False)
        self.values[rows] = top.values
        self.keys[rows] = torch.cat([self.keys[rows], places + start], dim=1).gather(1, top.indices)
        self.bar[rows] = top.values.amin(dim=1, keepdim=True)

    def sorted(self) -> Neighbors:
        """The best k, nearest first."""
        top = self.values.topk(self.k, dim=1)
        return Neighbors(top.values, self.keys.gather(1, top.indices))
