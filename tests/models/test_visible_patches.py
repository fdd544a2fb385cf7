"""A backbone that sees visible patches alone gives what each image gives by itself; and the tokens of inner layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.models import MaskedBackbone, MaskedSwinTransformer, MaskedVisionTransformer
from tests.models.builders import SWIN, VIT, gradient_of


def vit(**changes: Any) -> MaskedVisionTransformer:
    torch.manual_seed(0)
    settings = {key: value for key, value in {**VIT, **changes}.items() if key != 'type'}
    network = MaskedVisionTransformer(**settings)
    network.init_weights()
    return network.eval()


def by_itself(network: MaskedVisionTransformer, image: Tensor, hidden: Tensor) -> Tensor:
    """Of one image (3, H, W) with (L,) hidden patches: mmpretrain's layers on what is left, (E + V, C)."""
    extra = network.num_extra_tokens
    tokens, _ = network.patch_embed(image[None])
    tokens = (tokens + network.pos_embed[:, extra:])[:, ~hidden]
    if extra:
        tokens = torch.cat((network.cls_token + network.pos_embed[:, :1], tokens), dim=1)
    for layer in network.layers:
        tokens = tokens + layer.attn(layer.ln1(tokens))
        tokens = tokens + layer.ffn.layers(layer.ln2(tokens))
    return network.ln1(tokens)[0]


def masks(equal: bool, images: int = 5, length: int = 16) -> Tensor:
    order = torch.rand(images, length, generator=torch.Generator().manual_seed(1)).argsort(dim=1).argsort(dim=1)
    counts = torch.full((images, 1), 12) if equal else torch.tensor([[0], [3], [8], [12], [15]])
    return (order < counts).view(images, 4, 4)


@pytest.mark.parametrize('equal', [True, False])
@pytest.mark.parametrize('changes', [{}, dict(with_cls_token=False, out_type='avg_featmap')], ids=['cls', 'no cls'])
def test_each_image_comes_out_as_by_itself(equal, changes):
    network, mask = vit(**changes), masks(equal)
    images = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    found = network.forward_visible(images, mask)
    visible = (~mask).flatten(1).sum(1)
    assert found.patch_tokens.shape == (5, int(visible.max()), 48) and found.grid == (4, 4)
    for index, image in enumerate(images):
        hidden, count = mask[index].flatten(), int(visible[index])
        expected = by_itself(network, image, hidden)
        extra = network.num_extra_tokens
        torch.testing.assert_close(found.patch_tokens[index, :count], expected[extra:], rtol=1e-5, atol=1e-5)
        pooled = expected[0] if extra else expected.mean(dim=0)
        torch.testing.assert_close(found.pooled[index], pooled, rtol=1e-5, atol=1e-5)
        assert found.places[index, :count].tolist() == (~hidden).nonzero().squeeze(1).tolist()
        assert (found.places[index, count:] == -1).all() and not found.patch_tokens[index, count:].any()


def test_nothing_hidden_is_the_whole_image():
    network, images = vit(), torch.randn(2, 3, 32, 32)
    found = network.forward_visible(images, torch.zeros(2, 4, 4, dtype=torch.bool))
    whole = network.forward_tokens(images)
    torch.testing.assert_close(found.patch_tokens, whole.patch_tokens)
    torch.testing.assert_close(found.pooled, whole.pooled)


def test_everything_hidden_leaves_the_class_token_or_is_refused():
    mask = torch.ones(2, 4, 4, dtype=torch.bool)
    found = vit().forward_visible(torch.randn(2, 3, 32, 32), mask)
    assert found.patch_tokens.shape == (2, 0, 48) and torch.isfinite(found.pooled).all()
    mask[0, 0, 0] = False
    assert torch.isfinite(vit().forward_visible(torch.randn(2, 3, 32, 32), mask).patch_tokens).all()
    with pytest.raises(UsageError, match='all patches of an image are hidden'):
        vit(with_cls_token=False, out_type='avg_featmap').forward_visible(torch.randn(2, 3, 32, 32), mask)


def test_hidden_pixels_and_padding_get_no_gradient_and_stochastic_depth_keeps_images_apart():
    network, mask = vit(drop_path_rate=0.5).train(), masks(equal=False)
    images = torch.randn(5, 3, 32, 32, requires_grad=True)
    torch.manual_seed(3)
    network.forward_visible(images, mask).patch_tokens[2].square().sum().backward()
    gradient = gradient_of(images).unflatten(2, (4, 8)).unflatten(4, (4, 8)).abs().sum(dim=(1, 3, 5))
    assert not gradient[[0, 1, 3, 4]].any()
    assert not gradient[2][mask[2]].any() and gradient[2][~mask[2]].all()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_a_swin_says_what_it_cannot():
    network = MaskedSwinTransformer(**{key: value for key, value in SWIN.items() if key != 'type'})
    assert MaskedVisionTransformer.encodes_visible and not network.encodes_visible
    mask = torch.arange(49).view(1, 7, 7) == 0
    with pytest.raises(
        UsageError, match='MaskedSwinTransformer cannot encode the visible patches alone of a grid of 7x7'
    ):
        network.forward_visible(torch.zeros(1, 3, 224, 224), mask)
    with pytest.raises(UsageError, match='MaskedBackbone cannot encode visible patches only'):
        MaskedBackbone().forward_visible(torch.zeros(1, 3, 224, 224), mask)


@pytest.mark.parametrize('kind', ['vit', 'swin'])
def test_inner_layers(kind):
    """The last is what a pass gives; each is what a network that ends there gives."""
    network = vit() if kind == 'vit' else MaskedSwinTransformer(**{k: v for k, v in SWIN.items() if k != 'type'}).eval()
    images = torch.randn(2, 3, *(32, 32) if kind == 'vit' else (224, 224))
    with torch.no_grad():
        last, normed, plain = network.forward_tokens(images), network.forward_layers(images, 2), None
        plain = network.forward_layers(images, 2, norm=False)
        torch.testing.assert_close(normed[-1], last.patch_tokens)
        norm = network.ln1 if kind == 'vit' else network.norm3
        for with_norm, without in zip(normed, plain, strict=True):
            torch.testing.assert_close(with_norm, norm(without))
        blocks = network.layers if kind == 'vit' else network.stages[-1].blocks
        removed = blocks[-1]
        del blocks[-1]
        torch.testing.assert_close(network.forward_tokens(images).patch_tokens, normed[0])
        blocks.append(removed)
    for count in (0, len(blocks) + 1, True):
        with pytest.raises(UsageError, match='come from 1 to'):
            network.forward_layers(images, count)
