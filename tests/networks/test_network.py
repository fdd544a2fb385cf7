from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.models import MaskedBackbone
from mstkit.networks import Network
from tests.networks.toy import CASES, NETWORKS, SWINS, VIT, build, network, sharpen, timm_vit, toy_images


@pytest.mark.parametrize('name', ['mstkit ViT', 'mstkit Swin'])
def test_tokens_are_those_of_our_backbones(name: str) -> None:
    net = network(name)
    for size in NETWORKS[name][1]:
        assert isinstance(net.backbone, MaskedBackbone)
        expected = net.backbone.forward_tokens(toy_images(size))
        output = net(toy_images(size))
        assert torch.equal(output.patch_tokens, expected.patch_tokens) and output.grid == tuple(expected.grid)
        assert torch.equal(output.pooled, expected.pooled) and output.attention is None


@pytest.mark.parametrize('name', ['mmpretrain ViT', 'mmpretrain ViT of patches', 'mmpretrain BEiT'])
def test_pooled_is_what_mmpretrain_hands_on(name: str) -> None:
    net = network(name)
    assert torch.equal(net(toy_images()).pooled, net.backbone(toy_images())[-1])


@pytest.mark.parametrize('name', [name for name in NETWORKS if 'timm' in name])
def test_pooled_is_what_timm_hands_on(name: str) -> None:
    net = network(name)
    images = toy_images(NETWORKS[name][1][0])
    torch.testing.assert_close(net(images).pooled, net.backbone(images), atol=1e-5, rtol=1e-5)


def test_a_pretraining_backbone_hides_nothing() -> None:
    net = network('mmpretrain MAE')
    output = net(toy_images())
    assert output.grid == (4, 4) and output.patch_tokens.shape[1] == 16
    torch.testing.assert_close(output.pooled, net.backbone(toy_images(), mask=None)[-1][:, 0])


@pytest.mark.parametrize(('name', 'size'), CASES)
def test_one_block_is_the_pooled_token(name: str, size: tuple[int, int]) -> None:
    net = network(name)
    output = net(toy_images(size))
    assert torch.equal(net.features(toy_images(size)), output.pooled)
    assert output.patch_tokens.shape[1] == output.grid[0] * output.grid[1]


def test_features_of_a_vit_by_a_plain_loop() -> None:
    net = network('mstkit ViT')
    backbone: Any = net.backbone
    tokens = backbone.patch_embed(toy_images())[0]
    tokens = torch.cat((backbone.cls_token.expand(2, -1, -1), tokens), dim=1) + backbone.pos_embed
    classes = []
    for layer in backbone.layers:
        tokens = layer(tokens)
        classes.append(backbone.ln1(tokens)[:, 0])
    expected = torch.cat((*classes[-2:], backbone.ln1(tokens)[:, 1:].mean(1)), dim=1)
    torch.testing.assert_close(net.features(toy_images(), last_blocks=2, mean_patch=True), expected)


def test_features_of_a_timm_vit_are_its_own_intermediate_layers() -> None:
    net = network('timm ViT with registers')
    assert isinstance(net.backbone, TimmViT)
    layers = net.backbone.get_intermediate_layers(toy_images(), n=3, norm=True, return_prefix_tokens=True)
    expected = torch.cat([prefix[:, 0] for _, prefix in layers], dim=1)
    torch.testing.assert_close(net.features(toy_images(), last_blocks=3), expected)


@pytest.mark.parametrize('name', [name for name in SWINS if name != 'mmpretrain padding Swin'])
def test_features_of_a_swin_by_a_plain_loop(name: str) -> None:
    """The last four blocks lie in two stages; each of the last stage is normalized before it is averaged (iBOT)."""
    net = network(name)
    images = toy_images(SWINS[name][1][0])
    backbone: Any = net.backbone
    stages: list[list[Tensor]] = []  # the tokens behind each block, (B, L, C)
    if name.startswith('timm'):
        tokens = backbone.patch_embed(images)
        for stage in backbone.layers:
            tokens = stage.downsample(tokens)
            stages.append([])
            for block in stage.blocks:
                tokens = block(tokens)
                stages[-1].append(tokens.flatten(1, 2))
        weight, bias, eps = backbone.norm.weight, backbone.norm.bias, backbone.norm.eps
    else:
        tokens, grid = backbone.patch_embed(images)
        for stage in backbone.stages:
            stages.append([])
            for block in stage.blocks:
                tokens = block(tokens, grid)
                stages[-1].append(tokens)
            if stage.downsample is not None:
                tokens, grid = stage.downsample(tokens, grid)
        weight, bias, eps = backbone.norm3.weight, backbone.norm3.bias, backbone.norm3.eps
    third = [block.mean(1) for block in stages[2]]
    fourth = []
    for block in stages[3]:
        centered = block - block.mean(-1, keepdim=True)
        normalized = centered / (centered.square().mean(-1, keepdim=True) + eps).sqrt()
        fourth.append((normalized * weight + bias).mean(1))
    features = net.features(images, last_blocks=4)
    assert features.shape == (2, 2304 // 4)  # a Swin-T of a quarter of the width
    torch.testing.assert_close(features, torch.cat((*third, *fourth), dim=1), atol=1e-5, rtol=1e-5)


def test_features_that_were_kept_from_another_reading_are_not_taken_for_these(monkeypatch) -> None:
    swin, vit = network('mstkit Swin').fingerprint, network('mstkit ViT').fingerprint
    monkeypatch.setattr('mstkit.networks.network._FEATURES', {})  # as when only the very last block was normalized
    assert network('mstkit Swin').fingerprint != swin
    assert network('mstkit ViT').fingerprint == vit


@pytest.mark.parametrize('kind', ['mmpretrain', 'timm', 'timm with registers'])
@pytest.mark.parametrize('size', [(24, 24), (40, 56)])
def test_positions_of_dinos_weights_are_interpolated_as_dinos_code_does(kind: str, size: tuple[int, int]) -> None:
    """By scale factors of (cells + 0.1) / cells, against a network whose positions are put there by hand."""
    registers = dict(reg_tokens=2, no_embed_class=True) if 'registers' in kind else {}

    def made(**arguments: Any) -> Any:
        if kind == 'mmpretrain':
            return build('mmpretrain.VisionTransformer', **{**VIT, **arguments})()
        return timm_vit(**registers, **arguments)()

    any_size = {} if kind == 'mmpretrain' else dict(dynamic_img_size=True)
    backbone, other = made(**any_size), made(img_size=size)
    sharpen(backbone)
    extra = 0 if registers else 1
    maps = backbone.pos_embed[:, extra:].reshape(1, 4, 4, -1).permute(0, 3, 1, 2)
    scale = tuple((side // 8 + 0.1) / 4 for side in size)
    maps = nn.functional.interpolate(maps, scale_factor=scale, mode='bicubic')
    positions = torch.cat((backbone.pos_embed[:, :extra], maps.flatten(2).transpose(1, 2)), dim=1)
    other.load_state_dict({**backbone.state_dict(), 'pos_embed': positions})
    about: dict[str, Any] = dict(name='x', image_size=32, mean=(0.0,) * 3, std=(1.0,) * 3)
    net, expected = Network(backbone, **about, interpolate_offset=0.1), Network(other, **about)
    torch.testing.assert_close(net(toy_images(size)).patch_tokens, expected(toy_images(size)).patch_tokens)
    plain = Network(backbone, **about)
    assert (plain(toy_images(size)).patch_tokens - net(toy_images(size)).patch_tokens).abs().max() > 1e-3
    assert torch.equal(plain(toy_images()).patch_tokens, net(toy_images()).patch_tokens)  # its own size
    assert backbone.pos_embed.shape[1] == 16 + extra, 'what was there is back'
    assert net.fingerprint != plain.fingerprint and net.without_last(1).interpolate_offset == 0.1


def test_a_backbone_may_bring_the_offset_along() -> None:
    torch.manual_seed(0)
    backbone = build('MaskedVisionTransformer', **VIT, interpolate_offset=0.1)()
    assert isinstance(backbone, MaskedBackbone)
    plain = build('MaskedVisionTransformer', **VIT)()
    plain.load_state_dict(backbone.state_dict())
    about: dict[str, Any] = dict(name='x', image_size=32, mean=(0.0,) * 3, std=(1.0,) * 3)
    net, given = Network(backbone, **about), Network(plain, **about, interpolate_offset=0.1)
    assert net.fingerprint == given.fingerprint != Network(plain, **about).fingerprint
    images = toy_images((48, 24))
    torch.testing.assert_close(net(images).patch_tokens, backbone.forward_tokens(images).patch_tokens)
    torch.testing.assert_close(net(images).patch_tokens, given(images).patch_tokens)


@pytest.mark.parametrize('name', ['mstkit Swin', 'mmpretrain BEiT', 'mmpretrain ViT without class token'])
def test_a_mean_is_not_given_twice(name: str) -> None:
    with pytest.raises(UsageError, match='is already the mean of its patches'):
        network(name).features(toy_images(), mean_patch=True)


@pytest.mark.parametrize('count', [0, 4])
def test_more_blocks_than_there_are(count: int) -> None:
    with pytest.raises(UsageError, match=f'last_blocks is {count}; mstkit ViT has 3 blocks'):
        network('mstkit ViT').features(toy_images(), last_blocks=count)


def test_it_is_frozen_and_stays_in_evaluation_mode() -> None:
    net = network('mstkit ViT')
    assert net.train() is net
    assert not any(part.training for part in net.modules())
    assert not any(parameter.requires_grad for parameter in net.parameters())
    assert net.image_size == 32 and net.resize == 37 and net.mean == (0.0, 0.0, 0.0)


def test_fingerprint() -> None:
    first, again = network('mstkit ViT'), network('mstkit ViT')
    again.name = 'another name'
    assert first.fingerprint == again.fingerprint and len(first.fingerprint) == 64
    sizes: dict[str, Any] = dict(image_size=32, mean=first.mean, std=first.std)
    assert Network(first.backbone, '', **sizes, branch='teacher').fingerprint != first.fingerprint
    assert Network(first.backbone, '', **{**sizes, 'mean': (1, 0, 0)}).fingerprint != first.fingerprint
    changed = network('mstkit ViT')
    changed.backbone.get_parameter('cls_token').data[0, 0, 5] += 1e-6
    assert changed.fingerprint != first.fingerprint
    # The same tensors in another number of heads are another network.
    arch = dict(embed_dims=48, num_layers=3, num_heads=6, feedforward_channels=96)
    heads: Any = build('MaskedVisionTransformer', arch=arch, img_size=32, patch_size=8)()
    heads.load_state_dict(first.backbone.state_dict())
    assert Network(heads, '', **sizes).fingerprint != first.fingerprint


def test_other_networks_are_refused() -> None:
    for backbone in (nn.Linear(2, 2), build('mmpretrain.ResNet', depth=18)()):
        with pytest.raises(UsageError, match='not a supported ViT or Swin'):
            Network(backbone, '', 32, (0,) * 3, (1,) * 3)
    rotary = build('mmpretrain.ViTEVA02', arch='tiny', img_size=28)()
    with pytest.raises(UsageError, match=r'AttentionWithRoPE.*not supported'):
        Network(rotary, '', 28, (0,) * 3, (1,) * 3)
