from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from mstkit.evaluation.protocols import nearest_neighbors as module
from mstkit.evaluation.protocols.nearest_neighbors import nearest


def made(count: int, seed: int, size: int = 16) -> torch.Tensor:
    """Clusters of different lengths, so that cosines differ from dot products."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(9, size, generator=torch.Generator().manual_seed(99))
    features = centers[torch.randint(9, (count,), generator=generator)] + torch.randn(count, size, generator=generator)
    return features * (0.5 + torch.rand(count, 1, generator=generator))


def reference(queries: torch.Tensor, keys: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """All cosines in double precision, all sorted."""
    cosine = functional.normalize(queries.double(), dim=1) @ functional.normalize(keys.double(), dim=1).T
    order = cosine.sort(dim=1, descending=True)
    return order.values[:, :k], order.indices[:, :k]


ORDERS = {
    'random': lambda keys, queries: keys,
    'by cluster': lambda keys, queries: keys[(keys @ made(1, 5)[0]).argsort()],
    'farthest first': lambda keys, queries: keys[(functional.normalize(keys, dim=1) @ queries[0]).argsort()],
    'nearest first': lambda keys, queries: keys[(functional.normalize(keys, dim=1) @ -queries[0]).argsort()],
}


@pytest.mark.parametrize('order', ORDERS)
@pytest.mark.parametrize('k', [1, 7, 60])
@pytest.mark.parametrize('tile', [(256, 2048), (5, 64), (32, 96), (7, 50)])
def test_equals_sorting_everything(monkeypatch, tile, k, order):
    monkeypatch.setattr(module, 'CPU_TILE', tile)
    queries = made(23, seed=1)
    keys = ORDERS[order](made(1111, seed=2), queries)
    similarity, indices = nearest(queries, keys, k)
    expected, places = reference(queries, keys, k)
    torch.testing.assert_close(similarity.double(), expected, rtol=0, atol=1e-6)
    assert torch.equal(indices, places)


def test_groups_of_different_sizes(monkeypatch):
    """The last block of keys need not be whole groups, nor hold as many keys as neighbors are asked for."""
    for size in (1, 8, 64):
        monkeypatch.setattr(module, 'GROUP', size)
        monkeypatch.setattr(module, 'CPU_TILE', (4, 128))
        for count in (128, 129, 300, 384):
            queries, keys = made(9, seed=3), made(count, seed=count)
            assert torch.equal(nearest(queries, keys, 100).indices, reference(queries, keys, 100)[1])


def test_all_keys_are_neighbors():
    queries, keys = made(4, seed=6), made(50, seed=7)
    assert torch.equal(nearest(queries, keys, 50).indices, reference(queries, keys, 50)[1])


def test_equal_keys_and_zeros(monkeypatch):
    """Ties at the bar: any of them will do, each once, and nothing nearer is lost."""
    monkeypatch.setattr(module, 'CPU_TILE', (4, 64))
    keys = torch.ones(500, 4)
    keys[::2] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    keys[17] = 0
    queries = torch.stack([torch.ones(4), torch.zeros(4)])
    similarity, indices = nearest(queries, keys, 100)
    assert torch.equal(similarity[0], torch.ones(100)) and torch.equal(similarity[1], torch.zeros(100))
    assert all(len(set(row.tolist())) == 100 for row in indices)
    assert bool((indices[0] % 2 == 1).all())


def test_few_of_the_similarities_are_sorted(monkeypatch):
    """What it is for: with keys in random order only few blocks of a query are sorted."""
    sorted_rows = []
    topk = torch.Tensor.topk

    def note_rows(self, k, **kw):
        sorted_rows.append(self.numel())
        return topk(self, k, **kw)

    monkeypatch.setattr(torch.Tensor, 'topk', note_rows)
    queries, keys = made(64, seed=8), made(20000, seed=9)
    monkeypatch.setattr(module, 'CPU_TILE', (64, 1024))
    nearest(queries, keys, 10)
    assert sum(sorted_rows) < 0.2 * len(queries) * len(keys)
