from __future__ import annotations

from typing import Any

import pytest
import torch

from mstkit.errors import UsageError
from mstkit.networks import Network
from tests.models.builders import TINY
from tests.networks.toy import SWIN, build, network, toy_images

SIZES: dict[str, Any] = dict(name='', image_size=32, mean=(0.0,) * 3, std=(1.0,) * 3)


def shorter(net: Network, kind: str, **arguments: Any) -> Network:
    """A network that was built with fewer blocks, with those weights of another that it has room for."""
    backbone = build(kind, **arguments)()
    own, found = backbone.state_dict(), net.backbone.state_dict()
    backbone.load_state_dict({name: found[name] for name in own})
    return Network(backbone, **SIZES)


@pytest.mark.parametrize('count', [0, 1, 2])
def test_a_vit_without_its_last_blocks_is_a_shorter_one(count: int) -> None:
    net = network('mstkit ViT')
    arch = {**TINY, 'num_layers': 3 - count}
    expected = shorter(net, 'MaskedVisionTransformer', arch=arch, img_size=32, patch_size=8)
    cut = net.without_last(count)
    assert len(cut.blocks) == 3 - count and [block.index for block in cut.blocks] == list(range(3 - count))
    for blocks in range(1, 4 - count):
        assert torch.equal(cut.features(toy_images(), blocks, True), expected.features(toy_images(), blocks, True))


@pytest.mark.parametrize(
    ('count', 'where', 'depths'),
    [
        (1, 'end', [2, 1, 2, 1]),
        (2, 'end', [2, 1, 2, 0]),
        (3, 'end', [2, 1, 1, 0]),
        (1, 'stage3', [2, 1, 1, 2]),
        (2, 'stage3', [2, 1, 0, 2]),
    ],
)
def test_a_swin_without_some_blocks_is_a_shallower_one(count: int, where: str, depths: list[int]) -> None:
    net = network('mstkit Swin')
    images = toy_images((224, 224), count=1)
    arch = {**SWIN['arch'], 'depths': depths}
    whole = net(images)
    cut = net.without_last(count, where)
    backbone: Any = build('MaskedSwinTransformer', **{**SWIN, 'arch': arch})()
    own, found = backbone.state_dict(), net.backbone.state_dict()
    backbone.load_state_dict({name: found[name] for name in own})
    expected = backbone.eval().forward_tokens(images)
    output = cut(images)
    assert output.pooled.shape == whole.pooled.shape and output.grid == tuple(expected.grid)
    assert torch.equal(output.patch_tokens, expected.patch_tokens)
    assert [block.stage for block in cut.blocks] == [stage for stage, depth in enumerate(depths) for _ in range(depth)]


@pytest.mark.parametrize('name', ['timm Swin', 'timm ViT', 'mmpretrain BEiT'])
def test_other_libraries(name: str) -> None:
    net = network(name)
    size = {'timm Swin': 96, 'timm ViT': 64}.get(name, 32)
    seen: list[torch.Tensor] = []
    output = net.watch(toy_images((size, size)), on_tokens=lambda block, tokens: seen.append(tokens), blocks=[-2])
    cut = net.without_last(1)
    structure = net._structure
    assert torch.equal(cut.features(toy_images((size, size))), structure.pool(structure.norm(seen[0])))
    assert not torch.equal(cut(toy_images((size, size))).pooled, output.pooled)


def test_weights_are_shared_and_the_whole_network_stays_as_it_is() -> None:
    net = network('mstkit ViT')
    before = net(toy_images()).pooled
    cut = net.without_last(1)
    assert torch.equal(net(toy_images()).pooled, before) and len(net.blocks) == 3
    kept = {parameter.data_ptr() for parameter in net.parameters()}
    assert {parameter.data_ptr() for parameter in cut.parameters()} < kept
    assert cut.blocks[0].module is not net.blocks[0].module  # hooks on one are not seen by the other
    assert cut.fingerprint != net.fingerprint == network('mstkit ViT').fingerprint
    assert cut.name == 'mstkit ViT without 1' and cut.without_last(1).fingerprint == net.without_last(2).fingerprint


@pytest.mark.parametrize(
    ('name', 'arguments', 'message'),
    [
        ('mstkit ViT', (3,), 'has 3 in all, of which at least 1 has to stay'),
        ('mstkit ViT', (-1,), '-1 blocks cannot be dropped'),
        ('mstkit ViT', (1, 'stage3'), 'no third stage'),
        ('mstkit Swin', (3, 'stage3'), 'has 2 in its third stage'),
        ('mstkit Swin', (1, 'start'), "from 'end' or 'stage3', not from 'start'"),
    ],
)
def test_refused(name: str, arguments: tuple, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        network(name).without_last(*arguments)
