"""Exact k-nearest neighbors by cosine similarity: every pair is compared, but few similarities are sorted.

``topk`` over a block of similarities takes as long as computing them, if k is about a hundred. So each block is first
reduced to the maxima of groups of keys, which is cheap. The best k keys of a block are in the k groups with the highest
maxima. And once k neighbors of a query are known, only groups whose maximum is above its threshold (its k-th best
similarity so far) can contain a better one. So only few groups are sorted per query, fewer with every block: in total
about k * log(M / k) of M keys if these are in random order, and in any order at most k groups per block.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

# Queries and keys per matrix product: enough for full speed, and small in memory.
CPU_TILE = (1024, 8192)
GPU_TILE = (4096, 32768)
GROUP = 8  # keys that share a maximum
FEW = 16  # queries with at most this many groups to sort are processed apart from those with more


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
    """Finds the k keys with the highest cosine similarity for each query.

    Memory, besides arguments and result: the normalized queries, 12 bytes for each query and neighbor, one block of
    keys and one tile of similarities (32 MiB on a CPU). Ties between keys of equal similarity are broken arbitrarily.

    Args:
        queries: (Q, D), need not be normalized.
        keys: (M, D), likewise; normalized block by block.
        k: 1 to M.
        device: for the computation; by default that of the queries.
    """
    target_device = queries.device if device is None else torch.device(device)
    rows, columns = CPU_TILE if target_device.type == 'cpu' else GPU_TILE
    unit = functional.normalize(queries.to(target_device).float(), dim=1)
    parts = [(part, _Best(len(part), k, target_device)) for part in unit.split(rows)]
    space = torch.empty(rows * columns, device=target_device)
    for start in range(0, len(keys), columns):
        block = functional.normalize(keys[start : start + columns].to(target_device).float(), dim=1)
        for part, best in parts:
            tile = space[: len(part) * len(block)].view(len(part), len(block))
            torch.mm(part, block.T, out=tile)
            best.update(tile, start)
    found = [best.sorted() for _, best in parts]
    return Neighbors(torch.cat([one.similarity for one in found]), torch.cat([one.indices for one in found]))


class _Best:
    """The best k keys so far of some queries, unsorted.

    Attributes:
        values: (q, k) float32, similarities; minus infinity for neighbors not found yet.
        keys: (q, k) int64, the indices of the keys.
        threshold: (q, 1) float32, the lowest of ``values``; only a key above it can become a neighbor.
    """

    def __init__(self, queries: int, k: int, device: torch.device) -> None:
        self.k = k
        self.values = torch.full((queries, k), -torch.inf, device=device)
        self.keys = torch.zeros(queries, k, dtype=torch.int64, device=device)
        self.threshold = torch.full((queries, 1), -torch.inf, device=device)

    def update(self, tile: Tensor, start: int) -> None:
        """Updates the neighbors with the similarities (q, b) to the keys from ``start`` on."""
        size = GROUP if tile.shape[1] % GROUP == 0 else 1
        # Key j is in group j modulo the number of groups, so that the maxima are taken over contiguous rows.
        maxima = tile.unflatten(1, (size, -1)).amax(dim=1)
        counts = (maxima > self.threshold).sum(dim=1)
        few = counts <= FEW
        for rows in ((few & (counts > 0)).nonzero()[:, 0], (~few).nonzero()[:, 0]):
            if len(rows):
                self._merge(rows, tile, maxima[rows], min(int(counts[rows].max()), self.k), start)

    def _merge(self, rows: Tensor, tile: Tensor, maxima: Tensor, width: int, start: int) -> None:
        """Merges the keys of the ``width`` groups with the highest maxima into the neighbors of some queries."""
        keys, groups = tile.shape[1], maxima.shape[1]
        best = maxima.topk(width, dim=1, sorted=False).indices
        steps = torch.arange(0, keys, groups, device=tile.device)
        columns_of_groups = (best[:, None] + steps[:, None]).flatten(1)
        values = torch.cat([self.values[rows], tile.take(rows[:, None] * keys + columns_of_groups)], dim=1)
        top = values.topk(self.k, dim=1, sorted=False)
        self.values[rows] = top.values
        self.keys[rows] = torch.cat([self.keys[rows], columns_of_groups + start], dim=1).gather(1, top.indices)
        self.threshold[rows] = top.values.amin(dim=1, keepdim=True)

    def sorted(self) -> Neighbors:
        """The best k, nearest first."""
        top = self.values.topk(self.k, dim=1)
        return Neighbors(top.values, self.keys.gather(1, top.indices))
