from __future__ import annotations

import csv
import io

import pytest
import torch
from torch import Tensor

from mstkit.analysis import AttentionMeasures, centered_gram, linear_cka, per_head
from mstkit.analysis.network_comparison import (
    COLUMNS,
    Comparison,
    DroppedCurve,
    compare_layers,
    compare_networks,
    comparison_csv,
    measure_network,
)

from .maps import WatchedNetwork


def toy_images(count: int = 4, batch: int = 6) -> list[Tensor]:
    return list(torch.randn(count, batch, 3, 4, 4, generator=torch.Generator().manual_seed(0)))


def compare(*depths: int, **more) -> Comparison:
    measured = [
        measure_network(WatchedNetwork(depth, seed), f'net {seed}', 'a toy', toy_images())
        for seed, depth in enumerate(depths)
    ]
    return compare_networks(measured, **more)


def test_one_pass_gives_attention_and_similarity():
    network = WatchedNetwork(depth=3, seed=1)
    (found,) = compare_networks([measure_network(network, 'a', 'b', toy_images())]).networks
    assert network.passes == 4
    expected = AttentionMeasures()
    tokens: list[list[Tensor]] = []
    for images in toy_images():
        tokens.append([])
        network.watch(images, lambda _, found, into=tokens[-1]: into.append(found), expected.update)
    for block, same in zip(found.blocks, expected.result(), strict=True):
        assert torch.equal(block.distance, same.distance) and torch.equal(block.divergence.kl, same.divergence.kl)
    assert [gram.shape for gram in found.grams] == [(3, 6, 6)] * 4
    torch.testing.assert_close(found.grams[2][1], centered_gram(tokens[2][1]))
    one_batch = measure_network(network, 'a', 'b', toy_images(1, 20))
    first: list[Tensor] = []
    last: list[Tensor] = []
    network.watch(
        toy_images(1, 20)[0],
        lambda block, found: (last if block.index == 2 else first).append(found),
        lambda maps: None,
    )
    assert compare_layers(one_batch, one_batch)[0, 2].item() == pytest.approx(linear_cka(first[0], last[0]))


def test_networks_of_different_depth_are_compared_in_pairs():
    comparison = compare(3, 2)
    assert {pair: tuple(matrix.shape) for pair, matrix in comparison.cka.items()} == {
        ('net 0', 'net 0'): (3, 3),
        ('net 0', 'net 1'): (3, 2),
        ('net 1', 'net 1'): (2, 2),
    }
    torch.testing.assert_close(comparison.cka['net 0', 'net 0'].diagonal(), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(comparison.cka['net 0', 'net 1'], compare_layers(*comparison.networks[::-1]).T)


def test_the_table_holds_every_number():
    curves = [
        DroppedCurve('net 0', 'k20_top1', 'end', [(0, 60.0), (1, 50.5)]),
        DroppedCurve('net 0', 'k20_top1', 'stage3', [(0, 60.0)]),
    ]
    comparison = compare(3, 2, dropped=curves)
    text = comparison_csv(comparison)
    assert text.splitlines()[0] == ','.join(COLUMNS)
    rows = list(csv.DictReader(io.StringIO(text)))

    def read(**wanted: object) -> list[float]:
        wanted = {name: str(value) for name, value in wanted.items()}
        return [float(row['value']) for row in rows if wanted.items() <= row.items()]

    block = comparison.networks[1].blocks[1]
    place = dict(network='net 1', layer=2, stage=1)
    assert read(**place, measure='attention_distance_px') == block.distance.tolist()
    assert read(**place, measure='attention_entropy_nats', head=2) == [block.entropy[1].item()]
    assert read(**place, measure='kl_nats', other_head='') == per_head(block.divergence.kl).tolist()
    assert read(**place, measure='kl_nats', head=3, other_head=1) == [block.divergence.kl[2, 0].item()]
    assert read(**place, measure='js_nats', head=3, other_head=1) == [block.divergence.js[2, 0].item()]
    assert read(**place, measure='uniform_distance_px') == [block.uniform_distance]
    assert read(measure='cka', network='net 0', layer=3, other_network='net 1', other_layer=1) == [
        comparison.cka['net 0', 'net 1'][2, 0].item()
    ]
    assert read(measure='k20_top1_without_last_of_end', dropped=1) == [50.5]
    heads, blocks = 3, 5
    attention = 2 * heads + 3 * heads + 3 * heads * (heads - 1) + 2
    assert len(rows) == blocks * attention + 9 + 6 + 4 + 3


def test_a_single_head_has_no_divergence_in_the_table():
    network = WatchedNetwork(depth=1, seed=0, heads=1)
    text = comparison_csv(compare_networks([measure_network(network, 'a', 'b', toy_images())]))
    assert 'attention_distance_px' in text and 'kl' not in text and 'nan' not in text
