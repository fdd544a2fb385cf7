from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.networks import AttentionMaps, Network, patch_centers, window_places, windows_on_map
from tests.networks.toy import CASES, SWINS, network, toy_images


def inner(net: Network, index: int) -> Any:
    attention: Any = net.blocks[index].module.attn
    return getattr(attention, 'w_msa', attention)


def watched(net: Network, images: Tensor) -> tuple[dict[int, AttentionMaps], dict[int, tuple[Tensor, Tensor]]]:
    """The maps of all blocks, and what went into and came out of their attention modules."""
    maps: dict[int, AttentionMaps] = {}
    seen: dict[int, tuple[Tensor, Tensor]] = {}
    handles = []
    for block in net.blocks:

        def keep(module: nn.Module, inputs: tuple, output: Tensor, index: int = block.index) -> None:
            seen[index] = inputs[0], output

        handles.append(inner(net, block.index).register_forward_hook(keep))
    net.watch(images, on_attention=lambda found: maps.update({found.block: found}))
    for handle in handles:
        handle.remove()
    return maps, seen


@pytest.mark.parametrize(('name', 'size'), CASES)
def test_weights_give_what_the_module_itself_puts_out(name: str, size: tuple[int, int]) -> None:
    net = network(name)
    maps, seen = watched(net, toy_images(size))
    assert list(maps) == list(range(len(net.blocks)))
    for index, found in maps.items():
        attention = inner(net, index)
        tokens, output = seen[index]
        windows, length, dims = tokens.shape
        assert found.weights.dtype == torch.float32
        assert found.weights.shape == (windows, attention.num_heads, length, length)
        torch.testing.assert_close(found.weights.sum(-1), torch.ones(windows, attention.num_heads, length))
        assert found.weights.max() > 3 / length  # the check below would pass anything if attention were uniform
        bias = getattr(attention, 'v_bias', None) if attention.qkv.bias is None else attention.qkv.bias[-dims:]
        values = nn.functional.linear(tokens, attention.qkv.weight[-dims:], bias)
        values = values.view(windows, length, attention.num_heads, -1).transpose(1, 2)
        expected = attention.proj((found.weights @ values).transpose(1, 2).reshape(windows, length, dims))
        torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)


def test_every_behavior_of_windows_is_among_the_cases() -> None:
    """Else the tests above and below would say little about shifts and padding."""
    seen: dict[str, set[tuple[bool, bool]]] = {}
    for name in SWINS:
        for size in SWINS[name][1]:
            maps, _ = watched(network(name), toy_images(size, count=1))
            for found in maps.values():
                shifted = bool(found.positions[0, 0].min() > found.positions.min())
                seen.setdefault(name.split()[0], set()).add((shifted, found.real is not None))
    everything = {(shifted, padded) for shifted in (False, True) for padded in (False, True)}
    assert seen == dict.fromkeys(('mstkit', 'mmpretrain', 'timm'), everything)


@pytest.mark.parametrize('name', [name for name, _ in CASES if 'ViT' in name or 'BEiT' in name or 'MAE' in name])
def test_positions_of_a_vit(name: str) -> None:
    net = network(name)
    images = toy_images((64, 64) if name == 'timm ViT' else (32, 32))
    output = net(images)
    maps, _ = watched(net, images)
    patch = images.shape[-1] // output.grid[0]
    expected = [[patch * (row + 0.5), patch * (column + 0.5)] for row in range(4) for column in range(4)]
    for found in maps.values():
        assert found.positions.tolist() == expected and found.real is None and found.stage == 0
        assert found.weights.shape[-1] == found.extra + 16


@pytest.mark.parametrize(('name', 'size'), [case for case in CASES if case[0] in SWINS])
def test_positions_of_a_swin_are_where_its_windows_take_their_tokens_from(name: str, size: tuple[int, int]) -> None:
    """Each block's own attention is called with tokens that carry their row and column."""
    net = network(name)
    maps, _ = watched(net, toy_images(size))
    for block in net.blocks:
        stride = 4 * 2**block.stage
        height, width = (-(-side // stride) for side in size)
        tokens = torch.zeros(2, height, width, inner(net, block.index).qkv.in_features)
        tokens[..., 0] = torch.arange(1, height + 1)[:, None]
        tokens[..., 1] = torch.arange(1, width + 1)
        windows: list[Tensor] = []

        def keep(module: nn.Module, inputs: tuple, into: list[Tensor] = windows) -> None:
            into.append(inputs[0][..., :2])

        handle = inner(net, block.index).register_forward_pre_hook(keep)
        module: Any = block.module
        if name.startswith('timm'):
            module._attn(tokens)
        else:
            module.attn(tokens.flatten(1, 2), (height, width))
        handle.remove()
        found = maps[block.index]
        real = (windows[0] > 0).all(-1)
        assert found.stage == block.stage and found.extra == 0
        assert real.all() if found.real is None else torch.equal(found.real, real)
        torch.testing.assert_close(found.positions[real], (windows[0][real] - 0.5) * stride)


@pytest.mark.parametrize('pad_first', [True, False])
@pytest.mark.parametrize('grid', [(8, 6), (5, 7)])
@pytest.mark.parametrize('shift', [0, 1])
def test_window_places_by_a_plain_loop(grid: tuple[int, int], shift: int, pad_first: bool) -> None:
    height, width = grid
    size = 2
    rows, columns = height + height % size, width + width % size
    rolled: dict[tuple[int, int], tuple[int, int]] = {}
    for row in range(rows):
        for column in range(columns):
            if pad_first:
                rolled[row, column] = ((row + shift) % rows, (column + shift) % columns)
            elif row < height and column < width:
                rolled[row, column] = ((row + shift) % height, (column + shift) % width)
    expected = []
    for top in range(0, rows, size):
        for left in range(0, columns, size):
            expected.append([rolled.get((top + down, left + right)) for down in range(size) for right in range(size)])
    positions, real = window_places(grid, (size, size), (shift, shift), 4.0, pad_first)
    assert (real is None) == (height % 2 == width % 2 == 0)
    for window, places in enumerate(expected):
        for token, place in enumerate(places):
            inside = place is not None and place[0] < height and place[1] < width
            assert inside == (real is None or bool(real[window, token]))
            if inside and place is not None:
                assert positions[window, token].tolist() == [4 * place[0] + 2, 4 * place[1] + 2]


def test_values_of_windows_go_back_to_their_places() -> None:
    for grid in ((8, 6), (5, 7)):
        positions, real = window_places(grid, (4, 4), (2, 2), 8.0, True)
        values = torch.full(positions.shape[:2], -1.0)
        for window, token in torch.ones_like(values).nonzero().tolist():
            if real is None or real[window, token]:
                row, column = ((positions[window, token] - 4) / 8).tolist()
                values[window, token] = row * grid[1] + column
        two = torch.stack((torch.cat((values, values + 100)), torch.cat((values + 200, values + 300))), dim=1)
        back = windows_on_map(two, positions.repeat(2, 1, 1), None if real is None else real.repeat(2, 1), grid)
        expected = torch.arange(grid[0] * grid[1]).float()
        assert back.tolist() == [[(expected + more).tolist() for more in pair] for pair in ((0, 200), (100, 300))]


def test_patch_centers() -> None:
    assert patch_centers((1, 2), 16).tolist() == [[8, 8], [8, 24]]


def test_chosen_blocks_are_shown_in_order_and_nothing_stays_behind() -> None:
    net = network('mstkit ViT')
    seen: list[str] = []
    output = net.watch(
        toy_images(),
        on_tokens=lambda block, tokens: seen.append(f'tokens {block.index} {tuple(tokens.shape)}'),
        on_attention=lambda maps: seen.append(f'attention {maps.block}'),
        blocks=[-1, 0],
    )
    assert seen == ['attention 0', 'tokens 0 (2, 17, 48)', 'attention 2', 'tokens 2 (2, 17, 48)']
    assert torch.equal(output.pooled, net(toy_images()).pooled)
    with pytest.raises(ZeroDivisionError):
        net.watch(toy_images(), on_tokens=lambda block, tokens: 1 / 0)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())
    with pytest.raises(UsageError, match=r'block 3 does not exist.*has 3, from 0 to 2'):
        net.watch(toy_images(), blocks=[3])
