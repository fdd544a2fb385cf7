"""Patches that are visible in part: the rule, written out; its gradient; and that nothing changes without it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mstkit.models import Pretrainer
from mstkit.models.step import Step
from mstkit.registry import MODELS
from tests.models.builders import SMALL_BACKBONES, SWIN, TINY, VIT, gradient_of

# The grid of the mask is 4x4 in all; the small Swin embeds 32x32 patches.
BACKBONES: dict[str, tuple[dict[str, Any], int]] = {
    'vit': (VIT, 32),
    'vit without class token': ({**VIT, 'with_cls_token': False, 'out_type': 'avg_featmap'}, 32),
    'vit with registers': ({**VIT, 'num_registers': 2, 'relative_positions': 'shared'}, 32),
    'swin': (SMALL_BACKBONES['small swin'], 128),
    'swin with positions': ({**SMALL_BACKBONES['small swin'], 'use_abs_pos_embed': True}, 128),
}
VITS = [name for name in BACKBONES if name.startswith('vit')]


def build(name: str, dtype: torch.dtype = torch.float32) -> tuple[Any, Tensor]:
    """A backbone in evaluation mode, with two images for it."""
    torch.manual_seed(0)
    config, size = BACKBONES[name]
    backbone = MODELS.build(config)
    backbone.init_weights()
    if name == 'swin with positions':
        nn.init.normal_(backbone.absolute_pos_embed)
    return backbone.eval().to(dtype), torch.randn(2, 3, size, size).to(dtype)


def random_visibility(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(3)).to(dtype)


class Replaced(nn.Module):
    """A patch embedding that gives what it is given."""

    def __init__(self, tokens: Tensor, grid: tuple[int, int]) -> None:
        super().__init__()
        self.tokens, self.grid = tokens, grid

    def forward(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        return self.tokens, self.grid


@pytest.mark.parametrize('cells', [(4, 4), (2, 2), (2, 4)])
@pytest.mark.parametrize('with_token', [True, False], ids=['mask token', 'zeros'])
@pytest.mark.parametrize('name', BACKBONES)
def test_embeddings_are_mixed_with_the_mask_token_before_positions(name, with_token, cells, monkeypatch):
    backbone, images = build(name)
    token = torch.randn(backbone.embedding_dims) if with_token else None
    visibility, mask = random_visibility(2, *cells), torch.zeros(2, 4, 4, dtype=torch.bool)
    mask[0, 1, 2] = mask[1, 3, 3] = True
    with torch.no_grad():
        found = backbone.forward_tokens(images, mask, mask_token=token, visibility=visibility)
        tokens, (height, width) = backbone.patch_embed(images)
        expected = tokens.clone()
        for b in range(2):
            for i in range(height):
                for j in range(width):
                    v = float(visibility[b, i * cells[0] // height, j * cells[1] // width])
                    if mask[b, i * 4 // height, j * 4 // width]:
                        v = 0.0
                    other = torch.zeros(backbone.embedding_dims) if token is None else token
                    place = i * width + j
                    expected[b, place] = v * tokens[b, place] + (1 - v) * other
        monkeypatch.setattr(backbone, 'patch_embed', Replaced(expected, (height, width)))
        plain = backbone.forward_tokens(images)
    torch.testing.assert_close(found.patch_tokens, plain.patch_tokens, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.pooled, plain.pooled, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('cells', [(4, 4), (2, 2)])
@pytest.mark.parametrize('uneven', [False, True], ids=['equal counts', 'padded'])
@pytest.mark.parametrize('name', VITS)
def test_visible_patches_are_multiplied_with_their_positions(name, uneven, cells, monkeypatch):
    backbone, images = build(name)
    visibility, mask = random_visibility(2, *cells), torch.zeros(2, 4, 4, dtype=torch.bool)
    mask[:, 1] = True
    mask[0, 2, 2] = uneven
    with torch.no_grad():
        found = backbone.forward_visible(images, mask, visibility=visibility)
        tokens, grid = backbone.patch_embed(images)
        positions = backbone.pos_embed[0, backbone.num_extra_tokens :]
        expected = tokens.clone()
        for b in range(2):
            for place in range(16):
                v = visibility[b, place // 4 * cells[0] // 4, place % 4 * cells[1] // 4]
                # The backbone adds the position to what it is given.
                expected[b, place] = v * (tokens[b, place] + positions[place]) - positions[place]
        monkeypatch.setattr(backbone, 'patch_embed', Replaced(expected, grid))
        plain = backbone.forward_visible(images, mask)
    assert found.padded == plain.padded == uneven and torch.equal(found.places, plain.places)
    torch.testing.assert_close(found.patch_tokens, plain.patch_tokens, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.pooled, plain.pooled, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('name', BACKBONES)
def test_wholly_visible_is_the_same_to_the_bit_and_gets_a_gradient(name):
    """As a straight-through estimate has it: the value is exactly 1, the gradient that of a score."""
    backbone, images = build(name)
    scores = torch.randn(2, 4, 4, requires_grad=True)
    ones = 1 + (scores - scores.detach())  # in another order it would be rounded
    assert torch.equal(ones, torch.ones(2, 4, 4))
    token = torch.randn(backbone.embedding_dims)
    mask = torch.zeros(2, 4, 4, dtype=torch.bool)
    mask[:, 0] = True
    calls = [lambda **more: backbone.forward_tokens(images, mask, mask_token=token, **more)]
    if backbone.encodes_visible:
        calls.append(lambda **more: backbone.forward_visible(images, mask, **more))
    for call in calls:
        scores.grad = None
        with_ones, without = call(visibility=ones), call()
        assert torch.equal(with_ones.patch_tokens, without.patch_tokens)
        assert torch.equal(with_ones.pooled, without.pooled)
        with_ones.patch_tokens.square().mean().backward()
        gradient = gradient_of(scores)
        assert (gradient[~mask] != 0).all(), 'a visible patch counts'
        assert (gradient[mask] == 0).all(), 'a hidden patch is hidden, whatever its visibility is'


@pytest.mark.parametrize('where', [0.0, 0.37, 1.0])
@pytest.mark.parametrize('visible', [False, True], ids=['mask token', 'visible'])
def test_the_gradient_is_that_of_finite_differences(visible, where):
    backbone, images = build('vit', torch.float64)
    # Otherwise layer norm takes away most of what a factor does at the start of training.
    token = torch.randn(48, dtype=torch.float64)
    direction = torch.randn(2, 16, 48, dtype=torch.float64)
    mask = torch.zeros(2, 4, 4, dtype=torch.bool)

    def loss(visibility: Tensor) -> Tensor:
        if visible:
            return (backbone.forward_visible(images, mask, visibility=visibility).patch_tokens * direction).sum()
        seen = backbone.forward_tokens(images, mask_token=token, visibility=visibility)
        return (seen.patch_tokens * direction).sum()

    at = torch.full((2, 4, 4), where, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, (at,), eps=1e-6, atol=1e-5, rtol=1e-4, fast_mode=False)


def test_the_gradient_of_a_swin_is_that_of_finite_differences():
    backbone, images = build('swin', torch.float64)
    token = torch.randn(backbone.embedding_dims, dtype=torch.float64)
    at = random_visibility(2, 2, 2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda v: backbone.forward_tokens(images, mask_token=token, visibility=v).patch_tokens.square().sum(),
        (at,),
        eps=1e-6,
        atol=1e-5,
        rtol=1e-4,
    )


@pytest.mark.parametrize('name', BACKBONES)
def test_patch_embeddings_are_the_first_blocks_input(name):
    backbone, images = build(name)
    tokens, grid = backbone.patch_embeddings(images)
    assert tokens.shape == (2, grid[0] * grid[1], backbone.embedding_dims)
    assert grid[0] % backbone.grid_of(images)[0] == 0
    first: Any = backbone.layers[0] if name in VITS else backbone.stages[0]
    given: list[Tensor] = []
    first.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0]))
    backbone.forward_tokens(images)
    assert torch.equal(given[0][:, -tokens.shape[1] :], tokens)


def method(sees: str) -> Pretrainer:
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='MAE' if sees == 'visible' else 'SimMIM',
            backbone=dict(type='MaskedVisionTransformer', arch=TINY, img_size=32, patch_size=8),
            masker=dict(type='RandomMasker', ratio=0.5),
            data_preprocessor=dict(mean=[127.5] * 3, std=[64.0] * 3),
        )
    )
    model.init_weights()
    return model.train()


@pytest.mark.parametrize('sees', ['visible', 'mask_token'])
def test_a_step_gives_further_passes_of_the_student(sees):
    model = method(sees)
    images = torch.randn(2, 3, 32, 32)
    step = Step(model, [images])
    visibility = random_visibility(2, 4, 4).requires_grad_()
    mask = torch.zeros(2, 4, 4, dtype=torch.bool)
    mask[:, 1] = True
    for hidden in (None, mask):
        found = step.seen_at(visibility, hidden)
        none = torch.zeros_like(mask) if hidden is None else hidden
        expected: Any
        if sees == 'visible':
            expected = model.backbone.forward_visible(images, none, visibility=visibility)
        else:
            expected = model.backbone.forward_tokens(images, none, mask_token=model.mask_token, visibility=visibility)
        assert torch.equal(found.patch_tokens, expected.patch_tokens)
        assert found.patch_tokens.shape[1] == (12 if sees == 'visible' and hidden is not None else 16)
    found.patch_tokens.square().mean().backward()
    assert (gradient_of(visibility)[~mask] != 0).all()


def test_swin_is_tested_on_the_grid_that_it_says():
    assert SWIN['type'] == SMALL_BACKBONES['small swin']['type']
    backbone, images = build('swin')
    assert backbone.grid_of(images) == (4, 4) and backbone.patch_embed(images)[1] == (32, 32)
