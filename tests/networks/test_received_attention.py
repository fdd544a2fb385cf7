from __future__ import annotations

from typing import Any

import pytest
import torch

from mstkit.networks import AttentionMaps, received_attention
from tests.networks.toy import CASES, NETWORKS, SWINS, images, network


@pytest.mark.parametrize('size', NETWORKS['mstkit ViT'][1])
def test_of_a_vit_it_is_what_guides_a_masker(size: tuple[int, int]) -> None:
    net = network('mstkit ViT')
    backbone: Any = net.backbone
    found: dict[int, AttentionMaps] = {}
    output = net.watch(images(size), on_attention=lambda maps: found.update({maps.block: maps}))
    for block in range(3):
        expected = backbone.forward_tokens(images(size), return_attention=True, attention_layer=block - 3).attention
        received = received_attention(found[block])
        assert received.shape[-2:] == output.grid
        torch.testing.assert_close(received.flatten(2), expected)


def test_of_a_swin_it_is_what_guides_a_masker() -> None:
    net = network('mstkit Swin')
    backbone: Any = net.backbone
    found: list[AttentionMaps] = []
    net.watch(images((224, 224)), on_attention=found.append, blocks=[-1])
    expected = backbone.forward_tokens(images((224, 224)), return_attention=True).attention
    torch.testing.assert_close(received_attention(found[0]).flatten(2), expected)


@pytest.mark.parametrize(('name', 'size'), [case for case in CASES if case[0] in SWINS])
def test_of_windows_by_a_plain_loop(name: str, size: tuple[int, int]) -> None:
    found: list[AttentionMaps] = []
    network(name).watch(images(size), on_attention=found.append, blocks=[1, -1])
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
