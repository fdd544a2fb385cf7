"""A ViT with registers is timm's with the same weights, and no output of it holds a register."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import Tensor, nn
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.interop import load_backbone
from mstkit.models import MaskedVisionTransformer
from mstkit.networks import Network, received_attention
from tests.models.builders import gradient_of

ARCH = dict(embed_dims=24, num_layers=3, num_heads=3, feedforward_channels=48)
CLOSE = dict(rtol=1e-5, atol=1e-5)
KINDS = pytest.mark.parametrize('class_token', [True, False], ids=['cls', 'no cls'])


def vit(class_token: bool = True, registers: int = 4, **changes: Any) -> MaskedVisionTransformer:
    torch.manual_seed(0)
    out = {} if class_token else dict(with_cls_token=False, out_type='featmap')
    settings = dict(arch=ARCH, img_size=32, patch_size=8, num_registers=registers, **out)
    network = MaskedVisionTransformer(**{**settings, **changes})
    network.init_weights()
    for parameter in network.parameters():  # an initialization hides much: registers near zero, attention near uniform
        parameter.data += 0.2 * torch.randn(parameter.shape)
    return network.eval()


def timms(network: MaskedVisionTransformer, grid: tuple[int, int] = (4, 4)) -> TimmViT:
    """timm's ViT with the same weights, for images of grid * 8 pixels."""
    cls, registers = network.cls_token is not None, network.num_registers
    twin = TimmViT(
        img_size=tuple(8 * side for side in grid),
        patch_size=8,
        embed_dim=24,
        depth=3,
        num_heads=3,
        mlp_ratio=2,
        num_classes=0,
        class_token=cls,
        reg_tokens=registers,
        no_embed_class=True,
        global_pool='token' if cls else 'avg',
        fc_norm=False,
    )
    names = {
        'patch_embed.projection': 'patch_embed.proj',
        'ffn.layers.0.0': 'mlp.fc1',
        'ffn.layers.1': 'mlp.fc2',
        'layers': 'blocks',
        'ln1': 'norm1',
        'ln2': 'norm2',
        'register_tokens': 'reg_token',
    }
    state = {}
    for name, value in network.state_dict().items():
        name = 'norm' + name[3:] if name.startswith('ln1') else name
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        state[name] = value
    positions = state['pos_embed']
    if cls:  # timm's class token has its position in itself here, and its registers have none, as in DINOv2
        state['cls_token'] = state['cls_token'] + positions[:, :1]
    patches = positions[:, int(cls) :].transpose(1, 2).unflatten(2, (4, 4))
    if grid != (4, 4):
        patches = F.interpolate(patches, size=grid, mode='bicubic', align_corners=False)
    state['pos_embed'] = patches.flatten(2).transpose(1, 2)
    twin.load_state_dict(state)
    return twin.eval()


def images(grid: tuple[int, int] = (4, 4), count: int = 3) -> Tensor:
    size = tuple(8 * side for side in grid)
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(2))


def through(twin: TimmViT, tokens: Tensor) -> Tensor:
    """timm's blocks and norm on tokens that have their positions."""
    return twin.norm(twin.blocks(tokens))


def pooled(twin: TimmViT, tokens: Tensor) -> Tensor:
    return tokens[:, 0] if twin.cls_token is not None else tokens[:, twin.num_prefix_tokens :].mean(dim=1)


@KINDS
@pytest.mark.parametrize('grid', [(4, 4), (3, 5), (8, 8)])
def test_tokens_are_timms(class_token: bool, grid: tuple[int, int]) -> None:
    network = vit(class_token)
    twin, prefix = timms(network, grid), 4 + class_token
    expected, found = twin.forward_features(images(grid)), network.forward_tokens(images(grid))
    assert found.grid == grid and found.patch_tokens.shape == (3, grid[0] * grid[1], 24)
    torch.testing.assert_close(found.patch_tokens, expected[:, prefix:], **CLOSE)
    torch.testing.assert_close(found.pooled, pooled(twin, expected), **CLOSE)
    without = MaskedVisionTransformer(arch=ARCH, img_size=32, patch_size=8, **_out(class_token)).eval()
    without.load_state_dict({k: v for k, v in network.state_dict().items() if k != 'register_tokens'})
    apart = (without.forward_tokens(images(grid)).pooled - found.pooled).abs().max()
    assert apart > 1e-3, 'registers are attended to'


def _out(class_token: bool) -> dict[str, Any]:
    return {} if class_token else dict(with_cls_token=False, out_type='featmap')


@KINDS
def test_inner_layers_are_timms(class_token: bool) -> None:
    network = vit(class_token)
    twin = timms(network)
    for norm in (True, False):
        expected = twin.get_intermediate_layers(images(), n=2, norm=norm)
        for ours, theirs in zip(network.forward_layers(images(), 2, norm=norm), expected, strict=True):
            torch.testing.assert_close(ours, theirs, **CLOSE)


@KINDS
@pytest.mark.parametrize('read', ['all', 'hidden', 'pooled'])
def test_masked_tokens_are_timms(class_token: bool, read: Any) -> None:
    network, token = vit(class_token), torch.randn(24)
    twin, mask = timms(network), torch.rand(3, 4, 4) < 0.5
    embedded = torch.where(mask.flatten(1)[..., None], token, twin.patch_embed(images()))
    expected = through(twin, twin._pos_embed(embedded))
    found = network.forward_tokens(images(), mask, mask_token=token, read=read)
    torch.testing.assert_close(found.pooled, pooled(twin, expected), **CLOSE)
    read_ones = mask.flatten(1) if read == 'hidden' else torch.full((3, 16), read == 'all')
    torch.testing.assert_close(found.patch_tokens[read_ones], expected[:, 4 + class_token :][read_ones], **CLOSE)
    if class_token and read != 'all':
        assert not found.patch_tokens[~read_ones].any()


@KINDS
@pytest.mark.parametrize('counts', [(4, 4, 4), (1, 7, 16)], ids=['equal', 'uneven'])
def test_visible_patches_alone_are_timms(class_token: bool, counts: tuple[int, ...]) -> None:
    network, prefix = vit(class_token), 4 + class_token
    twin, mask = timms(network), torch.ones(3, 16, dtype=torch.bool)
    for hidden, count in zip(mask, counts, strict=True):
        hidden[torch.randperm(16)[:count]] = False
    found = network.forward_visible(images(), mask.view(3, 4, 4))
    everything = twin._pos_embed(twin.patch_embed(images()))
    for index, (hidden, count) in enumerate(zip(mask, counts, strict=True)):
        kept = torch.cat((torch.ones(prefix, dtype=torch.bool), ~hidden))
        expected = through(twin, everything[index : index + 1, kept])
        torch.testing.assert_close(found.patch_tokens[index, :count], expected[0, prefix:], **CLOSE)
        torch.testing.assert_close(found.pooled[index], pooled(twin, expected)[0], **CLOSE)
        assert found.places[index, :count].tolist() == (~hidden).nonzero().squeeze(1).tolist()


@KINDS
def test_registers_take_their_share_of_the_attention_and_guide_nobody(class_token: bool) -> None:
    """The row that guides a masker, and what a network's maps show, against a softmax over all tokens."""
    network, prefix = vit(class_token), 4 + class_token
    inputs: list[Tensor] = []
    handle = network.layers[-1].attn.register_forward_hook(lambda _, args, out: inputs.append(args[0]))
    found = network.forward_tokens(images(), return_attention=True).attention
    handle.remove()
    query, key, _ = network.layers[-1].attn.qkv(inputs[0]).view(3, -1, 3, 3, 8).permute(2, 0, 3, 1, 4)
    asking = query[:, :, :1] if class_token else query[:, :, prefix:].mean(dim=2, keepdim=True)
    row = (asking @ key.transpose(-2, -1) / 8**0.5).softmax(-1)[:, :, 0]
    assert found is not None and found.shape == (3, 3, 16)
    torch.testing.assert_close(found, row[:, :, prefix:], **CLOSE)
    assert (found.sum(-1) < 0.999).all(), 'the share of the registers is left out'


@KINDS
@pytest.mark.parametrize('twin', [True, False], ids=['timm', 'mstkit'])
def test_received_attention_of_a_network(class_token: bool, twin: bool) -> None:
    from_ours, prefix = vit(class_token), 4 + class_token
    network = Network(timms(from_ours) if twin else from_ours, 'any', 32, (0.0,) * 3, (1.0,) * 3)
    assert network.extra_tokens == prefix
    maps: list[Any] = []
    output = network.watch(images(), on_attention=maps.append, blocks=[-1])
    torch.testing.assert_close(output.patch_tokens, from_ours.forward_tokens(images()).patch_tokens, **CLOSE)
    torch.testing.assert_close(output.pooled, from_ours.forward_tokens(images()).pooled, **CLOSE)
    rows = maps[0].weights[:, :, :1] if class_token else maps[0].weights[:, :, prefix:]
    torch.testing.assert_close(received_attention(maps[0]).flatten(2), rows.mean(2)[:, :, prefix:], **CLOSE)


@pytest.mark.parametrize('offset', [0.0, 0.1])
@KINDS
def test_outputs_of_forward_hold_no_register(class_token: bool, offset: float) -> None:
    network = vit(class_token, interpolate_offset=offset)
    tokens = network.forward_tokens(images())
    assert network.num_prefix_tokens == 4 + class_token
    for network.out_type in ('raw', 'featmap', *(['cls_token'] if class_token else [])):
        found = network(images())[0]
        if network.out_type == 'raw':
            assert found.shape == (3, 16 + class_token, 24)
            torch.testing.assert_close(found[:, int(class_token) :], tokens.patch_tokens)
        elif network.out_type == 'featmap':
            torch.testing.assert_close(found.flatten(2).transpose(1, 2), tokens.patch_tokens)
        else:
            torch.testing.assert_close(found, tokens.pooled)


def test_weights_load_at_another_image_size() -> None:
    network = vit()
    larger = vit(img_size=64)
    larger.load_state_dict(network.state_dict())
    twin = timms(network, (8, 8))
    expected = twin.forward_features(images((8, 8)))
    torch.testing.assert_close(larger.forward_tokens(images((8, 8))).patch_tokens, expected[:, 5:], **CLOSE)
    saved = {'state_dict': {f'backbone.{name}': value for name, value in network.state_dict().items()}}
    again = vit(img_size=64)
    for parameter in again.parameters():
        nn.init.zeros_(parameter)
    load_backbone(again, saved)
    torch.testing.assert_close(again.register_tokens, network.register_tokens)
    torch.testing.assert_close(again.forward_tokens(images((8, 8))).patch_tokens, expected[:, 5:], **CLOSE)
    with pytest.raises(UsageError, match='register_tokens'):
        load_backbone(vit(registers=2), saved)


def test_registers_start_as_dinov2s_and_freeze_with_the_class_token() -> None:
    network = MaskedVisionTransformer(arch=ARCH, img_size=32, patch_size=8, num_registers=200)
    network.init_weights()
    assert network.register_tokens.shape == (1, 200, 24) and network.register_tokens.requires_grad
    assert network.register_tokens.std().item() == pytest.approx(1e-6, rel=0.05)
    frozen = vit(frozen_stages=1)
    assert not frozen.register_tokens.requires_grad and not frozen.cls_token.requires_grad
    assert network.get_layer_depth('backbone.register_tokens', 'backbone.') == (0, 5)
    assert network.get_layer_depth('backbone.layers.1.ln1.weight', 'backbone.') == (2, 5)


def test_gradients_reach_the_registers_with_activation_checkpointing_too() -> None:
    network, gradients = vit().train(), []
    for network.with_cp in (False, True):
        network.zero_grad()
        network.forward_tokens(images(), torch.rand(3, 4, 4) < 0.5, read='hidden').pooled.square().sum().backward()
        network.zero_grad()
        network.forward_tokens(images()).pooled.square().sum().backward()
        gradients.append(gradient_of(network.register_tokens))
    assert gradients[0].abs().min() > 0
    torch.testing.assert_close(*gradients)


def test_without_registers_nothing_differs() -> None:
    network = vit(registers=0)
    assert not any('register' in name for name in network.state_dict()) and network.num_prefix_tokens == 1
    mask = torch.ones(3, 4, 4, dtype=torch.bool)
    assert vit(registers=2).forward_visible(images(), mask).patch_tokens.shape == (3, 0, 24)
    with pytest.raises(UsageError, match='all patches of an image are hidden'):
        vit(False, registers=2).forward_visible(images(), mask)


@pytest.mark.parametrize('count', [-1, 1.5, True, 'four'])
def test_a_number_of_registers_that_is_none_is_refused(count: Any) -> None:
    with pytest.raises(UsageError, match='num_registers'):
        vit(registers=count)
