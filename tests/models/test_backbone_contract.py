"""What every registered backbone promises to methods, maskers and evaluations."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.models import MaskedBackbone
from mstkit.registry import MODELS
from mstkit.structures import Progress
from tests.models.builders import NECK, SIZES, SWIN, VIT

# Small ones of those that are large by default; any other is built from its defaults.
SMALL: dict[str, tuple[dict[str, Any], int]] = {
    VIT['type']: (VIT, SIZES['vit'][0]),
    SWIN['type']: (SWIN, SIZES['swin'][0]),
}
NAMES = sorted(
    name for name, cls in MODELS.module_dict.items() if inspect.isclass(cls) and issubclass(cls, MaskedBackbone)
)
every_backbone = pytest.mark.parametrize('name', NAMES)


def build(name: str) -> tuple[Any, int]:
    """A backbone in evaluation mode, and the side of a view that it takes, in pixels."""
    torch.manual_seed(0)
    config, size = SMALL.get(name, (dict(type=name), 0))
    backbone = MODELS.build(config)
    backbone.init_weights()
    return backbone.eval(), size or 8 * backbone.stride


def images_of(size: int, seed: int = 0) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_the_backbones_are_found():
    assert set(SMALL) <= set(NAMES)


@every_backbone
def test_shapes(name):
    backbone, size = build(name)
    images = images_of(size)
    tokens = backbone.forward_tokens(images)
    assert tokens.grid == backbone.grid_of(images) == (size // backbone.stride,) * 2
    assert tokens.patch_tokens.shape == (2, tokens.grid[0] * tokens.grid[1], backbone.feature_dims)
    assert tokens.pooled.shape == (2, backbone.feature_dims)
    assert tokens.attention is None
    assert backbone.train() is backbone and backbone.eval() is backbone
    backbone.check_image_size(size, masked=True)
    with pytest.raises(UsageError, match='not divisible'):
        backbone.check_image_size(size + 1, masked=True)


@every_backbone
def test_hidden_patches_are_not_seen(name):
    backbone, size = build(name)
    stride = backbone.stride
    images, other = images_of(size), images_of(size, seed=1)
    height, width = backbone.grid_of(images)
    mask = torch.zeros(2, height, width, dtype=torch.bool)
    mask[:, 0, 1] = mask[0, height - 1, 0] = True
    pixels = mask.repeat_interleave(stride, 1).repeat_interleave(stride, 2)[:, None]
    token = torch.randn(backbone.embedding_dims)
    seen = backbone.forward_tokens(images, mask, mask_token=token)
    changed = backbone.forward_tokens(torch.where(pixels, other, images), mask, mask_token=token)
    assert torch.equal(seen.patch_tokens, changed.patch_tokens) and torch.equal(seen.pooled, changed.pooled)
    assert not torch.equal(seen.patch_tokens, backbone.forward_tokens(images).patch_tokens)
    assert not torch.equal(seen.patch_tokens, backbone.forward_tokens(images, mask).patch_tokens), 'the token counts'


@every_backbone
def test_what_is_read_is_the_same_whatever_else_is_left_out(name):
    backbone, size = build(name)
    images = images_of(size)
    mask = torch.rand(2, *backbone.grid_of(images), generator=torch.Generator().manual_seed(0)) < 0.5
    whole = backbone.forward_tokens(images, mask)
    for read in ('pooled', 'hidden'):
        tokens = backbone.forward_tokens(images, mask, read=read)
        assert torch.allclose(tokens.pooled, whole.pooled, atol=1e-5)
    hidden = mask.flatten(1)
    assert torch.allclose(tokens.patch_tokens[hidden], whole.patch_tokens[hidden], atol=1e-5)
    if tokens.hidden is not None:
        assert torch.equal(tokens.hidden, hidden.flatten().nonzero().squeeze(1))


@every_backbone
def test_attention_is_given_where_it_is_promised(name):
    backbone, size = build(name)
    if not backbone.provides_attention:
        config = SMALL.get(name, (dict(type=name), 0))[0]
        with pytest.raises(UsageError, match=f'{name} .*provides none'):
            MODELS.build(dict(type='DINO', backbone=config, neck=dict(NECK), masker=dict(type='AttMaskHigh')))
        return
    attention = backbone.forward_tokens(images_of(size), return_attention=True).attention
    assert attention.ndim == 3 and attention.shape[::2] == (2, (size // backbone.stride) ** 2)
    assert attention.min() >= 0 and attention.sum(dim=-1).max() < attention.shape[-1]
    assert backbone.attention_layers(size) >= 1


@every_backbone
def test_visible_patches_alone_or_a_sentence(name):
    backbone, size = build(name)
    images = images_of(size)
    mask = torch.zeros(2, *backbone.grid_of(images), dtype=torch.bool)
    mask[:, 0] = True
    if not backbone.encodes_visible:
        with pytest.raises(UsageError, match=name):
            backbone.forward_visible(images, mask)
        if not backbone.encodes_squares:
            return
        images = images_of(2 * size)
        height, width = backbone.grid_of(images)
        mask = torch.ones(2, height, width, dtype=torch.bool)
        mask[0, ::2, ::2] = mask[1, 1::2, ::2] = False
    visible = backbone.forward_visible(images, mask)
    assert visible.patch_tokens.shape == (2, int((~mask[0]).sum()), backbone.feature_dims)


@every_backbone
def test_a_step_of_dino_trains_all_of_it(name):
    config, _ = SMALL.get(name, (dict(type=name), 0))
    _, size = build(name)
    model = MODELS.build(
        dict(
            type='DINO',
            backbone=config,
            neck=dict(NECK),
            masker=dict(type='RandomMasker', ratio=0.3),
            teacher=dict(momentum=0.9),
            data_preprocessor=dict(mean=[127.5] * 3, std=[64.0] * 3),
        )
    )
    model.init_weights()
    model.train()
    model.set_progress(Progress(3, 10, 5, rank_seed=1, iteration=3))
    (loss,) = model.loss([images_of(size, seed) for seed in range(2)]).values()
    loss.backward()
    assert torch.isfinite(loss)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert [name for name, p in trained.items() if p.grad is None] == []
    assert any(name.startswith('backbone.') for name in trained)
