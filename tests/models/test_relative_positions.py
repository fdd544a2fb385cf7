"""Biases by relative position, and BEiT's other parts, against mmpretrain's BEiT and timm's with the same weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mmpretrain.models.backbones import BEiTViT
from mmpretrain.models.backbones.beit import RelativePositionBias
from mmpretrain.models.selfsup import BEiTPretrainViT
from scipy import interpolate
from timm.models.beit import Beit
from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.models import MaskedVisionTransformer
from mstkit.models.encoder_layer import EncoderLayer
from mstkit.networks import Network
from mstkit.utils.relative_positions import resize_bias_table, token_pairs
from tests.models.builders import TINY

CPU = torch.device('cpu')
CLOSE = dict(rtol=1e-5, atol=1e-5)
KINDS = pytest.mark.parametrize('relative', ['shared', 'per_layer'])
NO_CLS = dict(with_cls_token=False, out_type='featmap')


def vit(relative: str | None = 'shared', **changes: Any) -> MaskedVisionTransformer:
    torch.manual_seed(0)
    beit: dict[str, Any] = dict(positions='none', qkv_bias='qv_bias', layer_scale_init_value=0.3, initialization='beit')
    settings = dict(arch=TINY, img_size=32, patch_size=8, out_type='raw', relative_positions=relative, **beit)
    network = MaskedVisionTransformer(**{**settings, **changes})
    network.init_weights()
    for parameter in network.parameters():  # tables start at zero, and attention begins nearly uniform
        parameter.data += 0.3 * torch.randn(parameter.shape)
    return network.eval()


def of_beit(state: dict[str, Tensor], timm: bool) -> dict[str, Tensor]:
    """Our tensors under the names of BEiT's code, mmpretrain's or timm's."""
    names = {'attn.gamma1.weight': 'gamma_1', 'ffn.gamma2.weight': 'gamma_2'}
    if timm:
        names |= {'patch_embed.projection': 'patch_embed.proj', 'ffn.layers.0.0': 'mlp.fc1', 'ffn.layers.1': 'mlp.fc2'}
        names |= {'layers': 'blocks', '.ln1': '.norm1', '.ln2': '.norm2'}
    found = {}
    for name, value in state.items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        found['norm' + name[3:] if timm and name.startswith('ln1') else name] = value
    return found


def mmpretrains(network: MaskedVisionTransformer, kind: type = BEiTViT, size: int = 32, **changes: Any) -> Any:
    shared = network.relative_positions == 'shared'
    settings = dict(use_rel_pos_bias=not shared, use_shared_rel_pos_bias=shared, layer_scale_init_value=0.3)
    twin = kind(arch=TINY, img_size=size, patch_size=8, final_norm=True, out_type='raw', **settings, **changes)
    wrong = twin.load_state_dict(of_beit(network.state_dict(), timm=False), strict=False)
    missing = [name for name in wrong.missing_keys if not name.endswith('relative_position_index')]
    assert not wrong.unexpected_keys and missing == ['mask_token'] * (kind is BEiTPretrainViT)
    twin.eval()  # gives None
    return twin


def timms(network: MaskedVisionTransformer) -> Beit:
    shared = network.relative_positions == 'shared'
    twin = Beit(
        img_size=32,
        patch_size=8,
        embed_dim=48,
        depth=3,
        num_heads=3,
        mlp_ratio=2,
        num_classes=0,
        qkv_bias=True,
        init_values=0.3,
        use_abs_pos_emb=False,
        use_rel_pos_bias=not shared,
        use_shared_rel_pos_bias=shared,
        global_pool='token',
    )
    twin.load_state_dict(of_beit(network.state_dict(), timm=True))
    return twin.eval()


def images(size: int | tuple[int, int] = 32, count: int = 3) -> Tensor:
    sides = (size, size) if isinstance(size, int) else size
    return torch.randn(count, 3, *sides, generator=torch.Generator().manual_seed(2))


def close_gradients(ours: nn.Module, theirs: nn.Module, tables: bool = True) -> None:
    """Of every parameter, in theirs' names; or of all but tables, which have other sizes."""
    gradients = {name: p.grad for name, p in ours.named_parameters() if p.grad is not None}
    found = of_beit(gradients, timm=isinstance(theirs, Beit))
    for name, parameter in theirs.named_parameters():
        if parameter.grad is not None and (tables or not name.endswith('bias_table')):
            largest = float(parameter.grad.abs().max())
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-5 * max(1, largest), msg=name)


@pytest.mark.parametrize('grid', [(4, 4), (2, 5), (1, 3)])
def test_pairs_are_mmpretrains(grid: tuple[int, int]) -> None:
    for class_token in (True, False):
        theirs = RelativePositionBias(grid, 3, class_token).relative_position_index
        assert torch.equal(token_pairs(grid, class_token, 0, CPU).entries, theirs)
    with_registers = token_pairs(grid, True, 2, CPU).entries
    kept = [0, *range(3, 3 + grid[0] * grid[1])]
    assert torch.equal(with_registers[kept][:, kept], token_pairs(grid, True, 0, CPU).entries)
    beyond = (2 * grid[0] - 1) * (2 * grid[1] - 1) + 3
    assert (with_registers[1:3] == beyond).all() and (with_registers[:, 1:3] == beyond).all(), 'no bias'


@KINDS
@pytest.mark.parametrize('library', ['mmpretrain', 'timm'])
def test_outputs_and_gradients_are_beits(relative: str, library: str) -> None:
    network = vit(relative)
    twin = mmpretrains(network) if library == 'mmpretrain' else timms(network)
    direction, outputs = torch.randn(3, 17, 48), []
    for one in (network, twin):
        found = twin.forward_features(images()) if one is twin and library == 'timm' else one(images())
        outputs.append(found[0] if isinstance(found, tuple) else found)
        (outputs[-1] * direction).sum().backward()
    torch.testing.assert_close(*outputs, **CLOSE)
    close_gradients(network, twin)
    tokens = network.forward_tokens(images())
    torch.testing.assert_close(torch.cat((tokens.pooled[:, None], tokens.patch_tokens), dim=1), outputs[1], **CLOSE)
    tables = [p for name, p in network.named_parameters() if name.endswith('relative_position_bias_table')]
    assert len(tables) == (1 if relative == 'shared' else 3) and all(table.grad.abs().sum() > 0 for table in tables)


@KINDS
@pytest.mark.parametrize('read', ['all', 'hidden', 'pooled'])
def test_masked_tokens_are_those_of_beits_pretraining(relative: str, read: Any) -> None:
    network, mask = vit(relative), torch.rand(3, 4, 4) < 0.5
    twin = mmpretrains(network, BEiTPretrainViT)
    nn.init.normal_(twin.mask_token)
    (expected,) = twin(images(), mask)
    found = network.forward_tokens(images(), mask, mask_token=twin.mask_token.flatten(), read=read)
    torch.testing.assert_close(found.pooled, expected[:, 0], **CLOSE)
    read_ones = mask.flatten(1) if read == 'hidden' else torch.full((3, 16), read == 'all')
    torch.testing.assert_close(found.patch_tokens[read_ones], expected[:, 1:][read_ones], **CLOSE)


@pytest.fixture
def old_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    """mmpretrain's load hook asks SciPy for a function that is gone: its replacement, as SciPy's guide has it."""

    def interp2d(x: Any, y: Any, z: Any, kind: str) -> Any:
        spline = interpolate.RectBivariateSpline(x, y, np.asarray(z).T)
        return lambda new_x, new_y: spline(new_x, new_y).T

    monkeypatch.setattr(interpolate, 'interp2d', interp2d, raising=False)


@KINDS
@pytest.mark.parametrize('size', [16, 24, 56])
def test_another_size_is_mmpretrains_network_of_that_size(relative: str, size: int, old_scipy: None) -> None:
    """mmpretrain resizes tables when it loads; here images of any size go through, with gradients, and weights load."""
    network, direction = vit(relative), torch.randn(48)
    twin = mmpretrains(network, size=size)
    expected = twin(images(size))[0]
    (expected @ direction).sum().backward()
    found = network.forward_tokens(images(size))
    torch.testing.assert_close(found.pooled, expected[:, 0], **CLOSE)
    torch.testing.assert_close(found.patch_tokens, expected[:, 1:], **CLOSE)
    larger = vit(relative, img_size=size)
    larger.load_state_dict(network.state_dict())
    torch.testing.assert_close(larger.forward_tokens(images(size)).patch_tokens, expected[:, 1:], **CLOSE)
    (network(images(size))[0] @ direction).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    close_gradients(network, twin, tables=False)


def test_the_gradient_of_a_resized_table_is_the_derivative() -> None:
    table = torch.randn(7 * 7 + 3, 2, dtype=torch.float64, requires_grad=True)
    direction = torch.randn((2 * 3 - 1) * (2 * 6 - 1) + 3, 2, dtype=torch.float64)
    made = resize_bias_table(table, (4, 4), (3, 6))
    assert torch.equal(made[-3:], table[-3:])
    (made * direction).sum().backward()
    assert table.grad is not None
    moved = table.detach() + 0.5 * table.grad
    change = ((resize_bias_table(moved, (4, 4), (3, 6)) - made.detach()) * direction).sum()
    assert change.item() == pytest.approx(0.5 * table.grad.square().sum().item(), rel=1e-4)


def test_a_side_that_stays_is_not_touched() -> None:
    rows = torch.arange(7.0)[:, None].expand(7, 9).reshape(-1, 1)
    columns = torch.arange(9.0).expand(7, 9).reshape(-1, 1)
    made = resize_bias_table(torch.cat((rows, columns), dim=1), (4, 5), (4, 3)).view(7, 5, 2)
    torch.testing.assert_close(made[..., 0], torch.arange(7.0)[:, None].expand(7, 5), **CLOSE)
    torch.testing.assert_close(made[:, 2, 1], torch.full((7,), 4.0), **CLOSE)
    assert (made[:, 1:, 1] > made[:, :-1, 1]).all()


def by_itself(network: MaskedVisionTransformer, image: Tensor, hidden: Tensor) -> Tensor:
    """What is left of an image (3, H, W) with (L,) hidden patches, through attention written out: (T, C)."""
    extra, prefix = network.num_extra_tokens, network.num_prefix_tokens
    tokens = network.patch_embed(image[None])[0][0]
    grid = tuple(side // 8 for side in image.shape[1:])
    places = [(row, column) for row in range(grid[0]) for column in range(grid[1])]
    first = [network.cls_token[0]] if extra else []
    if network.num_registers:
        first.append(network.register_tokens[0])
    x = torch.cat((*first, tokens[~hidden]))
    seen = [place for place, gone in zip(places, hidden.tolist(), strict=True) if not gone]
    height, width = network.table_grid
    entries = (2 * height - 1) * (2 * width - 1)
    for layer in network.layers:
        shared = network.relative_positions == 'shared'
        table = (network.rel_pos_bias if shared else layer.attn).relative_position_bias_table
        bias = torch.zeros(len(x), len(x), 3)
        for i in range(len(x)):
            for j in range(len(x)):
                if i >= prefix and j >= prefix:
                    down, right = (a - b for a, b in zip(seen[i - prefix], seen[j - prefix], strict=True))
                    bias[i, j] = table[(down + height - 1) * (2 * width - 1) + right + width - 1]
                elif extra and i == j == 0:
                    bias[i, j] = table[entries + 2]
                elif extra and (i == 0 or j == 0) and max(i, j) >= prefix:
                    bias[i, j] = table[entries if i == 0 else entries + 1]
        attention = layer.attn
        shift = torch.cat((attention.q_bias, torch.zeros(48), attention.v_bias))
        query, key, value = (layer.ln1(x) @ attention.qkv.weight.T + shift).view(-1, 3, 3, 16).permute(1, 2, 0, 3)
        weights = torch.softmax(query @ key.transpose(1, 2) / 4 + bias.permute(2, 0, 1), dim=-1)
        mixed = (weights @ value).transpose(0, 1).flatten(1)
        x = x + attention.gamma1.weight * attention.proj(mixed)
        x = x + layer.ffn.gamma2.weight * layer.ffn.layers(layer.ln2(x))
    return network.ln1(x)


@KINDS
@pytest.mark.parametrize('counts', [(4, 4, 4), (1, 7, 16)], ids=['equal', 'uneven'])
@pytest.mark.parametrize('changes', [{}, NO_CLS, dict(num_registers=2)], ids=['cls', 'no cls', 'registers'])
def test_visible_patches_keep_their_biases(relative: str, counts: tuple[int, ...], changes: dict) -> None:
    network, mask = vit(relative, **changes), torch.ones(3, 16, dtype=torch.bool)
    for hidden, count in zip(mask, counts, strict=True):
        hidden[torch.randperm(16)[:count]] = False
    found = network.forward_visible(images(), mask.view(3, 4, 4))
    for index, (hidden, count) in enumerate(zip(mask, counts, strict=True)):
        expected = by_itself(network, images()[index], hidden)
        patches = expected[network.num_prefix_tokens :]
        torch.testing.assert_close(found.patch_tokens[index, :count], patches, **CLOSE)
        pooled = expected[0] if network.num_extra_tokens else patches.mean(dim=0)
        torch.testing.assert_close(found.pooled[index], pooled, **CLOSE)
    whole = network.forward_tokens(images())
    none = network.forward_visible(images(), torch.zeros(3, 4, 4, dtype=torch.bool))
    torch.testing.assert_close(none.patch_tokens, whole.patch_tokens, **CLOSE)
    found.patch_tokens.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


@KINDS
@pytest.mark.parametrize('changes', [{}, NO_CLS, dict(num_registers=2)], ids=['cls', 'no cls', 'registers'])
def test_attention_maps_hold_the_biases(relative: str, changes: dict) -> None:
    """The row that guides a masker and the maps of a network, against the softmax that the tokens came from."""
    network = vit(relative, **changes)
    extra, prefix = network.num_extra_tokens, network.num_prefix_tokens
    calls: list[tuple[Tensor, Tensor]] = []
    handle = network.layers[-1].attn.register_forward_pre_hook(
        lambda _, args, named: calls.append((args[0], named['rel_pos_bias'])), with_kwargs=True
    )
    found = network.forward_tokens(images(), return_attention=True).attention
    handle.remove()
    (tokens, bias), attention = calls[0], network.layers[-1].attn
    shift = torch.cat((attention.q_bias, torch.zeros(48), attention.v_bias))
    query, key, _ = (tokens @ attention.qkv.weight.T + shift).view(3, -1, 3, 3, 16).permute(2, 0, 3, 1, 4)
    logits = query @ key.transpose(-2, -1) / 4 + bias
    row = logits[:, :, 0] if extra else logits[:, :, prefix:].mean(dim=2)
    torch.testing.assert_close(found, row.softmax(-1)[..., prefix:], **CLOSE)
    maps: list[Any] = []
    Network(network, 'any', 32, (0.0,) * 3, (1.0,) * 3).watch(images(), on_attention=maps.append, blocks=[-1])
    torch.testing.assert_close(maps[0].weights, logits.softmax(-1), **CLOSE)


@KINDS
def test_inner_layers_and_other_outputs(relative: str) -> None:
    network = vit(relative)
    tokens, plain = network.forward_tokens(images()), network.forward_layers(images(), 2, norm=False)
    normed = network.forward_layers(images(), 2)
    torch.testing.assert_close(normed[-1], tokens.patch_tokens)
    torch.testing.assert_close(network.ln1(plain[0]), normed[0])
    network.out_type = 'cls_token'
    torch.testing.assert_close(network(images())[0], tokens.pooled)


@KINDS
@pytest.mark.parametrize('read', ['all', 'hidden', 'pooled'])
def test_checkpointing_and_stochastic_depth_change_nothing_of_the_gradients(relative: str, read: Any) -> None:
    network, mask, gradients = vit(relative, drop_path_rate=0.5).train(), torch.rand(3, 4, 4) < 0.5, []
    for network.with_cp, leaves_out in ((False, True), (True, True), (False, False)):
        network.zero_grad()
        torch.manual_seed(4)
        with pytest.MonkeyPatch.context() as patch:
            if not leaves_out:  # as on other devices, where the branch is multiplied by zero
                patch.setattr(EncoderLayer, '_add', _scaled)
            network.forward_tokens(images(), mask, read=read).pooled.square().sum().backward()
            network.forward_visible(images(), mask).patch_tokens.square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in network.parameters()])
    for other in gradients[1:]:
        for a, b in zip(gradients[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * max(1.0, float(a.abs().max())))


def _scaled(self: EncoderLayer, base: Tensor, x: Tensor, factor: Tensor | None, branch: Any) -> Tensor:
    found = branch(x, None)
    return base + (found if factor is None else found * factor[:, :, None])


@KINDS
def test_half_precision(relative: str) -> None:
    network, mask = vit(relative), torch.rand(3, 4, 4) < 0.5
    expected, alone = network.forward_tokens(images()).pooled, network.forward_visible(images(), mask).pooled
    with torch.autocast('cpu', torch.bfloat16):
        torch.testing.assert_close(network.forward_tokens(images()).pooled.float(), expected, rtol=0.1, atol=0.1)
        torch.testing.assert_close(network.forward_visible(images(), mask).pooled.float(), alone, rtol=0.1, atol=0.1)


def test_a_table_that_layers_shared_becomes_each_layers_own() -> None:
    shared = vit('shared')
    own = vit('per_layer')
    own.load_state_dict(shared.state_dict())
    torch.testing.assert_close(own.forward_tokens(images()).patch_tokens, shared.forward_tokens(images()).patch_tokens)
    first, second = (layer.attn.relative_position_bias_table for layer in own.layers[:2])
    assert torch.equal(first, second) and first.data_ptr() != second.data_ptr()
    larger = vit('per_layer', img_size=48)
    larger.load_state_dict(shared.state_dict())
    torch.testing.assert_close(
        larger.forward_tokens(images(48)).pooled, shared.forward_tokens(images(48)).pooled, **CLOSE
    )
    with pytest.raises(RuntimeError, match='rel_pos_bias'):
        vit(None).load_state_dict(shared.state_dict())


def test_what_a_network_starts_as() -> None:
    network = MaskedVisionTransformer(
        arch=dict(embed_dims=192, num_layers=4, num_heads=3, feedforward_channels=768),
        relative_positions='per_layer',
        positions='none',
        qkv_bias='qv_bias',
        layer_scale_init_value=0.1,
        initialization='beit',
    )
    network.init_weights()
    deviation = 0.02 * 0.53956  # of a normal distribution that is cut off at its deviation
    assert network.pos_embed is None and 'pos_embed' not in network.state_dict()
    for depth, layer in enumerate(network.layers, start=1):
        assert not layer.attn.relative_position_bias_table.any() and layer.attn.qkv.bias is None
        assert not layer.attn.q_bias.any() and not layer.attn.v_bias.any()
        assert (layer.attn.gamma1.weight == 0.1).all() and (layer.ffn.gamma2.weight == 0.1).all()
        assert layer.attn.qkv.weight.std().item() == pytest.approx(deviation, rel=0.05)
        for last in (layer.attn.proj, layer.ffn.layers[1]):
            assert last.weight.std().item() == pytest.approx(deviation / (2 * depth) ** 0.5, rel=0.05)
    assert network.patch_embed.projection.weight.std().item() == pytest.approx(deviation, rel=0.05)
    assert not network.patch_embed.projection.bias.any()
    assert (
        network.cls_token.std().item() == pytest.approx(deviation, rel=0.15) and network.cls_token.abs().max() <= 0.02
    )


def test_frozen_layers_keep_their_biases_and_the_shared_table_too() -> None:
    network = vit('per_layer', frozen_stages=2)
    trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    assert trained and all(name.startswith(('layers.2.', 'ln1.')) for name in trained)
    assert not vit('shared', frozen_stages=1).rel_pos_bias.relative_position_bias_table.requires_grad


def test_without_these_options_nothing_is_added() -> None:
    plain = MaskedVisionTransformer(arch=TINY, img_size=32, patch_size=8)
    none = MaskedVisionTransformer(
        arch=TINY, img_size=32, patch_size=8, layer_scale_init_value=None, relative_positions=None
    )
    assert list(plain.state_dict()) == list(none.state_dict())
    assert vit(positions=None).positions == 'none', 'as --cfg-options gives it'
    assert not any('bias_table' in name or 'gamma' in name or 'q_bias' in name for name in plain.state_dict())


@pytest.mark.parametrize(
    ('setting', 'value'),
    [
        ('relative_positions', 'own'),
        ('relative_positions', True),
        ('positions', 'no'),
        ('qkv_bias', 'qv'),
        ('layer_scale_init_value', -1),
        ('initialization', 'BEiT'),
    ],
)
def test_other_values_are_refused(setting: str, value: Any) -> None:
    with pytest.raises(UsageError, match=setting):
        vit(**{setting: value})
