from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mstkit.networks import AttentionMaps, received_attention
from tests.networks.toy import CASES, NETWORKS, SWINS, network, toy_images


@pytest.mark.parametrize('size', NETWORKS['mstkit ViT'][1])
def test_of_a_vit_it_is_what_guides_a_masker(size: tuple[int, int]) -> None:
    net = network('mstkit ViT')
    backbone: Any = net.backbone
    found: dict[int, AttentionMaps] = {}
    output = net.watch(toy_images(size), on_attention=lambda maps: found.update({maps.block: maps}))
    for block in range(3):
        expected = backbone.forward_tokens(toy_images(size), return_attention=True, attention_layer=block - 3).attention
        received = received_attention(found[block])
        assert received.shape[-2:] == output.grid
        torch.testing.assert_close(received.flatten(2), expected)


def test_of_a_swin_it_is_what_guides_a_masker() -> None:
    net = network('mstkit Swin')
    backbone: Any = net.backbone
    found: list[AttentionMaps] = []
    net.watch(toy_images((224, 224)), on_attention=found.append, blocks=[-1])
    expected = backbone.forward_tokens(toy_images((224, 224)), return_attention=True).attention
    torch.testing.assert_close(received_attention(found[0]).flatten(2), expected)


@pytest.mark.parametrize(('name', 'size'), [case for case in CASES if case[0] in SWINS])
def test_of_windows_by_a_plain_loop(name: str, size: tuple[int, int]) -> None:
    found: list[AttentionMaps] = []
    network(name).watch(toy_images(size), on_attention=found.append, blocks=[1, -1])
    for maps in found:
        stride = 4 * 2**maps.stage
        received = received_attention(maps)
        assert received.shape[2:] == (-(-size[0] // stride), -(-size[1] // stride))
        windows = len(maps.weights) // 2
        for window in range(0, len(maps.weights), 3):
            real = [True] * maps.weights.shape[-1] if maps.real is None else maps.real[window].tolist()
            queries = [query for query, there in enumerate(real) if there]
            for key in queries[::5]:
                y, x = (maps.positions[window, key] / stride - 0.5).long().tolist()
                mean = sum(maps.weights[window, 0, query, key].item() for query in queries) / len(queries)
                assert received[window // windows, 0, y, x].item() == pytest.approx(mean, rel=1e-4)


def maps_of(weights: Tensor, positions: Tensor, extra: int, real: Tensor | None = None) -> AttentionMaps:
    return AttentionMaps(0, 0, weights, positions, extra, real, class_token=extra > 0)


def mean_over_heads(maps: AttentionMaps) -> tuple[Tensor, tuple[int, ...]]:
    """As evaluations take it: (B, h * w), and (h, w)."""
    received = received_attention(maps).mean(dim=1)
    return received.flatten(1), tuple(received.shape[1:])


def test_with_a_class_token_it_is_the_row_of_that_token() -> None:
    torch.manual_seed(0)
    weights = torch.rand(2, 3, 8, 8).softmax(dim=-1)
    positions = torch.cartesian_prod(torch.tensor([4.0, 12.0]), torch.tensor([4.0, 12.0, 20.0]))
    received, grid = mean_over_heads(maps_of(weights, positions, 2))
    assert grid == (2, 3)
    for image in range(2):
        for patch in range(6):
            mean = sum(float(weights[image, head, 0, 2 + patch]) for head in range(3)) / 3
            assert float(received[image, patch]) == pytest.approx(mean)


def test_without_class_token_patches_are_looked_at_by_their_window() -> None:
    """Windows of a 3 x 4 map, padded to 4 x 4, with a shift's order of rows: by the definition, one token at a time."""
    torch.manual_seed(1)
    places = torch.tensor([[(y, x) for y in ys for x in xs] for ys in ((1, 2), (9, 0)) for xs in ((2, 3), (0, 1))])
    real = places[:, :, 0] != 9
    weights = torch.rand(2 * 4, 2, 4, 4).softmax(dim=-1)
    maps = maps_of(weights, (places * 8.0 + 4).repeat(2, 1, 1), 0, real.repeat(2, 1))
    received, grid = mean_over_heads(maps)
    assert grid == (3, 4) and received.shape == (2, 12)
    for image in range(2):
        for window in range(4):
            asking = [token for token in range(4) if real[window, token]]
            for token in asking:
                block = weights[4 * image + window]
                mean = sum(float(block[head, other, token]) for head in range(2) for other in asking) / 2 / len(asking)
                y, x = places[window, token].tolist()
                assert float(received[image, 4 * y + x]) == pytest.approx(mean)


def test_windows_without_padding() -> None:
    weights = torch.rand(4, 2, 4, 4).softmax(dim=-1)
    places = torch.tensor([[(y, x) for y in ys for x in (0, 1)] for ys in ((0, 1), (2, 3))]) * 4.0 + 2
    received, grid = mean_over_heads(maps_of(weights, places.repeat(2, 1, 1), 0))
    assert grid == (4, 2)
    torch.testing.assert_close(received, weights.mean(dim=(1, 2)).view(2, 8))
    torch.testing.assert_close(received.sum(dim=1), torch.full((2,), 2.0))
