"""Histograms of oriented gradients against plain loops, mmpretrain and scikit-image, and what a person sees of them."""

from __future__ import annotations

import pytest
import torch
from mmpretrain.models.necks import LinearNeck
from mmpretrain.models.selfsup.maskfeat import HOGGenerator, MaskFeatViT
from skimage.feature import hog as skimage_hog
from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.models import HOG
from mstkit.registry import MODELS
from mstkit.structures import DrawnMask, MaskContext, Progress
from tests.models.plain_mim import hog


def noise(height: int, width: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


def in_cells(values: Tensor, target: HOG, grid: tuple[int, int]) -> Tensor:
    """(B, L, D) to (B, rows of cells, columns of cells, 3, bins)."""
    n = target.cells
    parts = values.view(-1, *grid, 3, target.bins, n, n)  # (B, h, w, 3, bins, n, n)
    return parts.permute(0, 1, 5, 2, 6, 3, 4).reshape(len(values), grid[0] * n, grid[1] * n, 3, target.bins)


@pytest.mark.parametrize(
    ('patch', 'settings'),
    [(8, {}), (16, {}), (8, dict(cell_size=4, bins=7)), (16, dict(gaussian_window=0)), (8, dict(gaussian_window=5))],
)
def test_values_are_those_of_a_plain_loop(patch, settings):
    images, target = noise(32, 48), HOG(patch, **settings)
    grid = (32 // patch, 48 // patch)
    found = target(images, grid)
    assert found.shape == (2, grid[0] * grid[1], target.dims) and found.dtype == torch.float32
    for image, cells in zip(images.double(), in_cells(found, target, grid), strict=True):
        expected = hog(image, target.cell_size, target.bins, target.gaussian_window)
        torch.testing.assert_close(cells.double(), expected, rtol=1e-5, atol=1e-6)


def test_values_are_mmpretrains():
    images = noise(224, 224)
    torch.testing.assert_close(HOG(16)(images, (14, 14)), HOGGenerator()(images.clone()), rtol=1e-5, atol=1e-6)


def test_values_are_scikit_images_where_definitions_agree():
    """On images that are a function of the row plus one of the column, whose Sobel gradients are central differences.

    Further differences: it counts angles from the other axis, which transposing takes away; it has no Gaussian; and its
    blocks are single cells here.
    """
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(1, 3, 32, 1, generator=generator) + torch.randn(1, 3, 1, 24, generator=generator)
    target = HOG(8, gaussian_window=0)
    found = in_cells(target(images, (4, 3)), target, (4, 3))[0]
    for channel in range(3):
        theirs = skimage_hog(
            images[0, channel].T.double().numpy(), 9, (8, 8), (1, 1), block_norm='L2', feature_vector=False
        )
        expected = torch.from_numpy(theirs).flatten(2).transpose(0, 1)
        torch.testing.assert_close(found[:, :, channel].double(), expected, rtol=1e-4, atol=1e-5)


def test_the_normalization_of_images_changes_nothing():
    images, target = noise(32, 32), HOG(8)
    other = images * torch.tensor([0.2, 3.0, 1.5]).view(3, 1, 1) + torch.tensor([5.0, -1.0, 0.0]).view(3, 1, 1)
    torch.testing.assert_close(target(images, (4, 4)), target(other, (4, 4)), rtol=1e-3, atol=1e-3)
    assert not target(torch.ones(1, 3, 16, 16), (2, 2)).any(), 'no gradient, no direction'
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(target(images, (4, 4)), target(images.clone(), (4, 4)).float())
        automatic = target(images, (4, 4))
    assert torch.equal(automatic, target(images, (4, 4))), 'float32 also under automatic casting'


@pytest.mark.parametrize('upright', [True, False])
def test_strokes_lie_along_edges(upright):
    edge = torch.zeros(1, 3, 16, 16)
    edge[..., 4:] = 1.0  # to the right of a vertical edge in the middle of the cells on the left
    edge = edge if upright else edge.transpose(2, 3)
    target = HOG(8, bins=8, gaussian_window=0)
    drawn = target.to_images(target(edge, (2, 2)), edge, (2, 2))
    assert drawn.shape == edge.shape and drawn.amin() >= 0 and drawn.amax() <= 1
    cell = drawn[0, 0, :8, :8] if upright else drawn[0, 0, :8, :8].T
    assert cell[:, 3:5].mean() > 3 * cell[:, [0, 1, 6, 7]].mean()
    assert not drawn[0, 0, 8:, 8:].any(), 'no edge there'


def test_a_step_is_mmpretrains(monkeypatch):
    arch = dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48)
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='MaskFeat',
            backbone=dict(type='MaskedVisionTransformer', arch=arch, img_size=224, patch_size=16),
            data_preprocessor=dict(mean=[0.0], std=[1.0]),
        )
    )
    model.init_weights()
    model.set_progress(Progress(0, 10, 5, rank_seed=1))
    shown, drawn, draw = noise(224, 224), [], model.masker.draw

    def kept(context: MaskContext) -> DrawnMask:
        drawn.append(draw(context))
        return drawn[-1]

    monkeypatch.setattr(model.masker, 'draw', kept)
    loss = model.train().loss([shown])['loss_predict']
    loss.backward()
    mask = drawn[0].hidden.flatten(1)
    assert mask.sum(dim=1).tolist() == [78, 78]

    theirs = MaskFeatViT(arch=arch, img_size=224, patch_size=16)
    neck = LinearNeck(24, 108, norm_cfg=None)
    state = {key.removeprefix('backbone.'): one for key, one in model.state_dict().items() if 'backbone' in key}
    theirs.load_state_dict({**state, 'mask_token': model.mask_token.detach()[None, None]})
    head = model.objectives['predict'].decoder.to_values
    neck.fc.load_state_dict(head.state_dict())
    predicted = neck((theirs(shown, mask)[:, 1:].flatten(0, 1),))[0].view(2, 196, 108)
    errors = nn.functional.mse_loss(predicted, HOGGenerator()(shown.clone()), reduction='none').mean(dim=-1)
    expected = (errors * mask).sum() / mask.sum()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, parameter in model.backbone.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs.get_parameter(name).grad, rtol=1e-4, atol=1e-7, msg=name)
    torch.testing.assert_close(model.mask_token.grad, theirs.mask_token.grad.flatten(), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(head.weight.grad, neck.fc.weight.grad, rtol=1e-4, atol=1e-7)


def test_the_panel_shows_the_target_beside_the_prediction():
    backbone = dict(
        type='MaskedVisionTransformer',
        arch=dict(embed_dims=24, num_layers=1, num_heads=2, feedforward_channels=48),
        img_size=32,
        patch_size=8,
    )
    model = MODELS.build(dict(type='MaskFeat', backbone=backbone))
    model.init_weights()
    data = model.panel(noise(32, 32))
    hidden = data.mask.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None].expand(-1, 3, -1, -1)
    true = HOG(8).to_images(HOG(8)(data.images, (4, 4)), data.images, (4, 4))
    assert torch.equal(data.target, torch.where(hidden, true, data.images))
    assert torch.equal(data.reconstruction[~hidden], data.images[~hidden])
    assert not torch.equal(data.reconstruction[hidden], data.target[hidden])
    pixels = MODELS.build(dict(type='SimMIM', backbone=backbone, mask_patch_size=8))
    assert pixels.panel(noise(32, 32)).target is None, 'the image is there already'


def test_mistakes():
    with pytest.raises(UsageError, match=r'HOG\.cell_size is 8, which .*_size 4: give a cell_size that divides 4'):
        HOG(4)
    with pytest.raises(UsageError, match=r'HOG\.bins'):
        HOG(8, bins=1)
