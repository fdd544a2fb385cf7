"""Positions and their tables on another grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmpretrain.models import SwinTransformer, VisionTransformer
from scipy import interpolate
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.interop import load_backbone
from mstkit.interop.resizing import resize_bias_table
from mstkit.models import MaskedVisionTransformer
from mstkit.utils.position_interpolation import resize_positions

from ..models.builders import SWIN, TINY
from .pretrained import (
    FEATMAP,
    OWN_SWIN,
    SMALL_WINDOW,
    TABLES,
    Source,
    expected_map,
    last_map,
    segmentor,
    state_of,
    toy_image,
)


@pytest.mark.parametrize('mode', ['bicubic', 'bilinear'])
@pytest.mark.parametrize('size', [64, (48, 96), 24])
def test_position_embeddings_are_resized_to_the_grid_of_the_module(vit, size, mode, monkeypatch):
    config = dict(arch=TINY, img_size=size, patch_size=8, interpolate_mode=mode)
    module, reference = VisionTransformer(**config), VisionTransformer(**config)
    reference.load_state_dict(vit.backbone().state_dict())  # resized by mmpretrain's own hook
    monkeypatch.setattr(module, '_prepare_pos_embed', None)
    report = load_backbone(module, vit.checkpoint)
    grid = module.patch_resolution
    assert report.resized == (('pos_embed', (1, 17, 48), (1, grid[0] * grid[1] + 1, 48)),)
    assert torch.equal(module.pos_embed, reference.pos_embed)
    assert torch.equal(module.pos_embed[:, 0], vit.backbone().pos_embed[:, 0])
    assert report.share == 1.0


def test_resized_positions_are_those_that_pre_training_uses_at_that_size(vit):
    """At another size than its own the pre-trained network interpolates as well, in every pass."""
    module = VisionTransformer(arch=TINY, img_size=64, patch_size=8, **FEATMAP)
    load_backbone(module, vit.checkpoint)
    assert (last_map(module, toy_image(64)) - expected_map(vit, toy_image(64))).abs().max() < 1e-5


def test_positions_of_a_square_grid_on_another_grid_of_the_same_length(vit):
    module = VisionTransformer(arch=TINY, img_size=(16, 64), patch_size=8)
    report = load_backbone(module, vit.checkpoint)
    assert not torch.equal(module.pos_embed, vit.backbone().pos_embed)
    assert report.loaded


def test_absolute_positions_of_swin(tmp_path):
    source = Source(tmp_path / 'a.pth', 'swin', backbone={**SMALL_WINDOW, 'use_abs_pos_embed': True})
    config = {key: value for key, value in SMALL_WINDOW.items() if key != 'type'}
    module = SwinTransformer(**{**config, 'img_size': (64, 192), 'use_abs_pos_embed': True})
    reference = SwinTransformer(**{**config, 'img_size': (64, 192), 'use_abs_pos_embed': True})
    reference.load_state_dict(source.backbone().state_dict())
    report = load_backbone(module, source.checkpoint)
    assert report.resized == (('absolute_pos_embed', (1, 1024, 24), (1, 768, 24)),)
    assert torch.equal(module.absolute_pos_embed, reference.absolute_pos_embed)
    own = segmentor(
        dict(type='SwinTransformer', window_size=2, pretrain_img_size=64, use_abs_pos_embed=True, **OWN_SWIN), 192
    )
    load_backbone(own.backbone, source.checkpoint)
    wanted = resize_positions(source.backbone().absolute_pos_embed, (32, 32), (16, 16), 0, 'bicubic')
    assert torch.equal(own.backbone.absolute_pos_embed, wanted)


@pytest.fixture
def old_scipy(monkeypatch):
    """mmpretrain's load hook asks SciPy for a function that is gone: its replacement, as SciPy's guide has it."""

    def interp2d(x, y, z, kind):
        assert kind == 'cubic'
        spline = interpolate.RectBivariateSpline(x, y, np.asarray(z).T)
        return lambda new_x, new_y: spline(new_x, new_y).T

    monkeypatch.setattr(interpolate, 'interp2d', interp2d, raising=False)
    return interp2d


@pytest.mark.parametrize('window', [5, 12])
def test_relative_position_tables_are_resized_to_the_window_of_the_module(swin, window, old_scipy, monkeypatch):
    config = dict(arch=SWIN['arch'], window_size=window, img_size=224)
    module, reference = SwinTransformer(**config), SwinTransformer(**config)
    index = state_of(module)['stages.0.blocks.0.attn.w_msa.relative_position_index']
    reference.load_state_dict(swin.backbone().state_dict(), strict=False)
    monkeypatch.setattr('mmpretrain.models.backbones.swin_transformer.resize_relative_position_bias_table', None)
    report = load_backbone(module, swin.checkpoint)
    assert interpolate.interp2d is old_scipy
    assert report.resized[0][1:] == ((169, 1), ((2 * window - 1) ** 2, 1))
    assert len(report.resized) == TABLES
    assert sum('of 2 blocks' in line for line in report.lines()) == 2
    for name, value in reference.state_dict().items():
        assert torch.equal(value, module.state_dict()[name]), name
    assert torch.equal(module.state_dict()['stages.0.blocks.0.attn.w_msa.relative_position_index'], index)
    assert len(report.loaded) == len(module.state_dict()) - TABLES and report.share == 1.0


def test_a_table_that_is_a_cubic_of_the_offset_stays_that_cubic():
    """A window of 3 has offsets 0, 1 and 1 + q, q at most 1.5; one of 4 asks for 0, 1, 2 and 3, the last clamped."""

    def cubic(offsets: list[float]) -> Tensor:
        rows = torch.tensor(offsets, dtype=torch.float64)
        return (0.01 * rows[:, None] ** 3 - 0.2 * rows[:, None] + 0.5 * rows[None, :] ** 2 - 1).flatten()

    resized = resize_bias_table(cubic([-2.5, -1, 0, 1, 2.5])[:, None].float(), 49)
    assert resized is not None
    assert (resized[:, 0] - cubic([-2.5, -2, -1, 0, 1, 2, 2.5])).abs().max() < 1e-3


def of_sizes(image: object, patch: int, **more: object) -> tuple[MaskedVisionTransformer, dict]:
    """A ViT and its checkpoint, with the config that says what its grid is."""
    torch.manual_seed(0)
    backbone = dict(arch=TINY, img_size=image, patch_size=patch, **more)
    vit = MaskedVisionTransformer(**backbone)
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.copy_(torch.randn_like(parameter))
    vit.eval()
    state = {f'backbone.{name}': value.clone() for name, value in vit.state_dict().items()}
    return vit, dict(state_dict=state, meta=dict(cfg=f'model = {dict(backbone=backbone)!r}'))


@pytest.mark.parametrize('offset', [0.0, 0.1])
def test_positions_of_a_grid_that_is_not_square(offset: float) -> None:
    source, checkpoint = of_sizes((16, 48), 8)
    target, _ = of_sizes((32, 32), 8, interpolate_offset=offset)
    report = load_backbone(target, checkpoint)
    assert report.resized == (('pos_embed', (1, 13, 48), (1, 17, 48)),)
    wanted = resize_positions(source.pos_embed, (2, 6), (4, 4), 1, 'bicubic', offset)
    assert torch.equal(target.pos_embed, wanted)
    with pytest.raises(UsageError, match=r'pos_embed is \(1, 13, 48\) in the file \(no square grid\)'):
        load_backbone(target, dict(state_dict=checkpoint['state_dict'], meta={}))


def test_tables_of_a_grid_that_is_not_square() -> None:
    settings = dict(relative_positions='shared', positions='none')
    source, checkpoint = of_sizes((16, 48), 8, **settings)
    target, _ = of_sizes((32, 32), 8, **settings)
    report = load_backbone(target, checkpoint)
    assert [shapes for _, *shapes in report.resized] == [[(36, 3), (52, 3)]]
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():  # as the network of the file does it by itself
        expected = source.forward_tokens(images).patch_tokens
        torch.testing.assert_close(target.forward_tokens(images).patch_tokens, expected, rtol=1e-5, atol=1e-5)


def test_a_resized_patch_is_embedded_as_the_patch_was() -> None:
    source, checkpoint = of_sizes(32, 8)
    target, _ = of_sizes(64, 16)
    report = load_backbone(target, checkpoint)
    assert report.resized == (('patch_embed.projection.weight', (48, 3, 8, 8), (48, 3, 16, 16)),)
    patches = torch.randn(5, 3, 8, 8)
    larger = torch.nn.functional.interpolate(patches, (16, 16), mode='bicubic', antialias=True)
    with torch.no_grad():
        found, expected = target.patch_embed.projection(larger), source.patch_embed.projection(patches)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
