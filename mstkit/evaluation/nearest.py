"""The nearest of very many vectors, exactly: every pair is compared, almost none is sorted.

Picking the best k out of a block of similarities takes as long as computing them, as soon as k is a hundred or so. But
once k neighbours of a query are known, nearly all further keys are farther away than the farthest of those. So a block
is reduced to the maxima of groups of keys, in one pass over memory that is still in the processor's cache; where a
maximum is above the query's bar, its k-th best so far, the group is looked at, and what passes goes to a table of the
query, which is sorted only when it is full. With keys in random order, about k * log2(M / k) of M keys pass. In the
worst order, from the farthest key to the nearest, every block is sorted, as the plain way does with all of them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

# Queries and keys of a tile. On a CPU its similarities stay in the cache of a core; a GPU wants more work at a time.
CPU_TILE = (256, 1024)
GPU_TILE = (4096, 32768)
GROUP = 32  # keys that share a maximum
_CROWDED = 0.5  # the share of groups above which a query's whole block is sorted


class Neighbours(NamedTuple):
    """The nearest keys of each query, nearest first.

    Attributes:
        similarity: (Q, k) float32, cosines.
        indices: (Q, k) int64, rows of the keys.
    """

    similarity: Tensor
    indices: Tensor


@torch.no_grad()
def nearest(queries: Tensor, keys: Tensor, k: int, device: torch.device | str | None = None) -> Neighbours:
    """Finds the k keys of the highest cosine for each query.

    Memory, besides arguments and result: the queries normalised, 24 bytes for each query and neighbour, and one block
    of keys with one tile of similarities. Which of several keys at the same distance are taken is not determined.

    Args:
        queries: (Q, D), need not be normalised.
        keys: (M, D), likewise; normalised block by block.
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
    return Neighbours(torch.cat([one.similarity for one in found]), torch.cat([one.indices for one in found]))


class _Best:
    """The best k keys of a few queries so far and further candidates, in tables of 2 k that fill from the left.

    Attributes:
        values: (q, 2 k) float32, similarities; minus infinity where nothing is yet.
        keys: (q, 2 k) int64, the keys that they belong to.
        count: (q,) int64, entries in use.
        bar: (q, 1) float32, the k-th best similarity when the table was last sorted; only a key above it can
            count.
    """

    def __init__(self, queries: int, k: int, device: torch.device) -> None:
        self.k, self.width = k, 2 * k
        self.values = torch.full((queries, self.width), -torch.inf, device=device)
        self.keys = torch.zeros(queries, self.width, dtype=torch.int64, device=device)
        self.count = torch.zeros(queries, dtype=torch.int64, device=device)
        self.bar = torch.full((queries, 1), -torch.inf, device=device)

    def update(self, tile: Tensor, start: int) -> None:
        """Takes in the similarities, (q, b), to the keys from ``start`` on."""
        size = GROUP if tile.shape[1] % GROUP == 0 else 1
        grouped = tile.view(len(tile), size, -1)  # key j is in group j modulo their number: maxima of whole rows
        groups = grouped.shape[2]
        query, group = (grouped.amax(dim=1) > self.bar).nonzero(as_tuple=True)
        most = _CROWDED * groups
        if len(query) > most:  # else no query can be crowded
            crowded = torch.bincount(query, minlength=len(tile)) > most
            self._sort(crowded.nonzero()[:, 0], tile, start)
            sparse = ~crowded[query]
            query, group = query[sparse], group[sparse]
        if len(query) == 0:
            return
        candidates = grouped[query, :, group]  # (n, size)
        which, member = (candidates > self.bar[query]).nonzero(as_tuple=True)
        values, keys, query = candidates[which, member], start + member * groups + group[which], query[which]
        new = torch.bincount(query, minlength=len(tile))
        full = self.count + new > self.width
        if full.any():
            many = full & (new > self.k)
            self._sort(many.nonzero()[:, 0], tile, start)
            self._sort((full & ~many).nonzero()[:, 0])
            kept = ~many[query]
            values, keys, query = values[kept], keys[kept], query[kept]
            new.masked_fill_(many, 0)
        # Queries come in order, so the distance of a candidate to the first of its query is its place among them.
        slot = self.count[query] + torch.arange(len(query), device=query.device) - (new.cumsum(0) - new)[query]
        self.values[query, slot] = values
        self.keys[query, slot] = keys
        self.count += new

    def _sort(self, queries: Tensor, tile: Tensor | None = None, start: int = 0) -> None:
        """Reduces the tables of some queries to the best k, of a whole tile too where one is given."""
        if len(queries) == 0:
            return
        values, keys = self.values[queries], self.keys[queries]
        if tile is None:
            top = values.topk(self.k, dim=1)
            keys = keys.gather(1, top.indices)
        else:
            top = torch.cat([values, tile[queries]], dim=1).topk(self.k, dim=1)
            old = keys.gather(1, top.indices.clamp(max=self.width - 1))
            keys = torch.where(top.indices < self.width, old, top.indices - self.width + start)
        self.values[queries, : self.k], self.values[queries, self.k :] = top.values, -torch.inf
        self.keys[queries, : self.k] = keys
        self.count[queries], self.bar[queries] = self.k, top.values[:, -1:]

    def sorted(self) -> Neighbours:
        """The best k, nearest first."""
        top = self.values.topk(self.k, dim=1)
        return Neighbours(top.values, self.keys.gather(1, top.indices))
