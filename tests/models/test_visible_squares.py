"""A Swin on visible patches alone: as on an image that is put together from them, blind to all others, or refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.models import MaskedSwinTransformer, MaskerSchedule, RandomMasker, Step, UniformMasker
from mstkit.structures import MaskContext, Progress
from tests.models.builders import SMALL_BACKBONES, gradient_of, total
from tests.models.mim_models import DECODER, build
from tests.models.plain_mim import mae_target

SMALL = {key: value for key, value in SMALL_BACKBONES['small swin'].items() if key != 'type'}
SIDE = 32


def swin(**more: Any) -> MaskedSwinTransformer:
    torch.manual_seed(0)
    network = MaskedSwinTransformer(**{**copy.deepcopy(SMALL), **more})
    network.init_weights()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return network.eval()


def squares(batch: int, height: int, width: int, *, secondary: float = 0.25) -> Tensor:
    """Masks (B, h, w) of UM-MAE."""
    masker = UniformMasker(secondary=secondary)
    masker.set_progress(Progress(0, 10, 5, 3, 0))
    return masker(MaskContext(torch.zeros(batch, 3, 1, 1), (height, width)))


def put_together(image: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor, list[int]]:
    """The image of half the side, its cells without a visible patch, and the places of its visible ones, by a loop."""
    height, width = hidden.shape
    small = image.new_zeros(3, height // 2 * SIDE, width // 2 * SIDE)
    gaps, places = torch.ones(height // 2, width // 2, dtype=torch.bool), {}
    for row in range(height):
        for column in range(width):
            if not hidden[row, column]:
                down, across = row // 2, column // 2
                pixels = image[:, row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]
                small[:, down * SIDE : (down + 1) * SIDE, across * SIDE : (across + 1) * SIDE] = pixels
                assert gaps[down, across]
                gaps[down, across] = False
                places[row * width + column] = down * (width // 2) + across
    return small, gaps, [places[place] for place in sorted(places)]


@pytest.mark.parametrize('secondary', [0.0, 0.25, 0.6])
@pytest.mark.parametrize('shape', [(4, 4), (4, 8)])
@pytest.mark.parametrize('more', [{}, dict(shift_by='img_size'), dict(with_cp=True)])
def test_tokens_are_those_of_an_image_of_the_visible_patches(more, shape, secondary):
    network, token = swin(**more), torch.randn(24)
    images, mask = torch.randn(3, 3, shape[0] * SIDE, shape[1] * SIDE), squares(3, *shape, secondary=secondary)
    with torch.no_grad():
        found = network.forward_visible(images, mask, layers=1, mask_token=token)
    assert found.grid == shape and found.padded is False
    for image, hidden, patches, pooled, places, inner in zip(
        images, mask, found.patch_tokens, found.pooled, found.places, found.layers[0], strict=True
    ):
        small, gaps, order = put_together(image, hidden)
        assert places.tolist() == (~hidden).flatten().nonzero().flatten().tolist()
        with torch.no_grad():
            plain = network.forward_tokens(small[None], gaps[None], mask_token=token, layers=1)
        torch.testing.assert_close(patches, plain.patch_tokens[0, order], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(inner, plain.layers[0][0, order], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(pooled, plain.patch_tokens[0, order].mean(dim=0), rtol=1e-5, atol=1e-5)


def test_gradients_are_those_of_an_image_of_the_visible_patches():
    """Of every parameter, and of the [MASK] embedding, image by image in double precision."""
    network, images, mask = swin().double(), torch.randn(3, 3, 128, 128, dtype=torch.float64), squares(3, 4, 4)
    token = torch.randn(24, dtype=torch.float64, requires_grad=True)
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad} | {'mask_token': token}
    found = network.forward_visible(images, mask, mask_token=token)
    made = torch.autograd.grad((found.patch_tokens**3).sum() + found.pooled.sum(), list(trained.values()))
    loss = torch.zeros((), dtype=torch.float64)
    for image, hidden in zip(images, mask, strict=True):
        small, gaps, order = put_together(image, hidden)
        plain = network.forward_tokens(small[None], gaps[None], mask_token=token).patch_tokens[0, order]
        loss = loss + (plain**3).sum() + plain.mean(dim=0).sum()
    expected = torch.autograd.grad(loss, list(trained.values()))
    for name, one, other in zip(trained, made, expected, strict=True):
        assert (one - other).norm() <= 1e-9 * other.norm() + 1e-12, name
        assert other.any(), name


def test_a_quarter_of_the_tokens_is_computed():
    network, seen = swin(), []
    network.stages[0].blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    network.forward_visible(torch.randn(2, 3, 128, 128), squares(2, 4, 4))
    network.forward_tokens(torch.randn(2, 3, 128, 128))
    assert seen == [16 * 16, 32 * 32]


def test_hidden_pixels_change_no_bit_and_get_no_gradient():
    network, mask = swin().double(), squares(2, 4, 4)
    images = torch.randn(2, 3, 128, 128, dtype=torch.float64, requires_grad=True)
    first = network.forward_visible(images, mask)
    first.patch_tokens.square().sum().backward()
    gradient = gradient_of(images).unflatten(2, (4, SIDE)).unflatten(4, (4, SIDE)).abs().sum(dim=(1, 3, 5))
    assert not gradient[mask].any() and gradient[~mask].all()
    hidden = mask.repeat_interleave(SIDE, 1).repeat_interleave(SIDE, 2)[:, None]
    other = network.forward_visible(torch.where(hidden, 7.0, images), mask)
    assert torch.equal(first.patch_tokens, other.patch_tokens)


def test_uneven_counts_are_padded_and_keep_images_apart():
    network, mask = swin(), squares(3, 4, 4, secondary=0.0)
    mask[1] |= torch.arange(4) < 2  # one visible patch in each row of squares is left
    images, token = torch.randn(3, 3, 128, 128), torch.randn(24)
    found = network.forward_visible(images, mask, mask_token=token)
    assert found.padded and found.places.tolist()[1][2:] == [-1, -1] and not found.patch_tokens[1, 2:].any()
    alone = network.forward_visible(images[1:2], mask[1:2], mask_token=token)
    torch.testing.assert_close(found.patch_tokens[1, :2], alone.patch_tokens[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.pooled[1], alone.patch_tokens[0].mean(dim=0), rtol=1e-5, atol=1e-6)


def test_without_a_hidden_patch_it_is_the_whole_grid():
    network, images = swin(), torch.randn(2, 3, 96, 160)
    found = network.forward_visible(images, torch.zeros(2, 3, 5, dtype=torch.bool))
    whole = network.forward_tokens(images)
    assert torch.equal(found.patch_tokens, whole.patch_tokens)
    assert found.places.tolist() == [list(range(15))] * 2
    torch.testing.assert_close(found.pooled, whole.pooled)


def test_visible_embeddings_may_be_faded():
    """Both those of the compact map and of the whole grid, with a gradient that equals a difference quotient."""
    network, mask = swin().double(), squares(1, 4, 4, secondary=0.0)
    images = torch.randn(1, 3, 128, 128, dtype=torch.float64)
    plain = network.forward_visible(images, mask).patch_tokens
    ones = torch.ones(1, 4, 4, dtype=torch.float64, requires_grad=True)
    faded = network.forward_visible(images, mask, visibility=ones).patch_tokens
    assert torch.equal(plain, faded)
    faded.square().sum().backward()
    gradient = gradient_of(ones)
    assert not gradient[mask].any()
    place = tuple((~mask).nonzero()[1].tolist())
    changed = []
    for step in (1e-5, -1e-5):
        moved = ones.detach().clone()
        moved[place] += step
        with torch.no_grad():
            changed.append(network.forward_visible(images, mask, visibility=moved).patch_tokens.square().sum())
    assert gradient[place].item() == pytest.approx(((changed[0] - changed[1]) / 2e-5).item(), rel=1e-4)


def mae(**parts: Any) -> Any:
    whole = dict(backbone=SMALL_BACKBONES['small swin'], decoder=DECODER, masker=dict(type='UniformMasker'))
    return build('MAE', **{**copy.deepcopy(whole), **parts})


def test_a_step_of_mae():
    """Its loss is that of a loop over the hidden patches, and the [MASK] embedding of empty squares is trained."""
    model, images = mae(), torch.randn(2, 3, 128, 128)
    model.check_views(128)
    step = Step(model, [images])
    assert step.mask is not None and int((~step.mask).sum()) == 2 * 3
    predicted = model.objectives['predict'].decoder(step.visible).view(2, 4, 4, -1)
    errors = [
        (predicted[image, row, column].double() - mae_target(pixels.double(), norm=True)).square().mean()
        for image in range(2)
        for row in range(4)
        for column in range(4)
        for pixels in [images[image, :, row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]]
        if step.mask[image, row, column]
    ]
    model.set_progress(Progress(0, 100, 10, rank_seed=1))  # the same draws again
    loss = total(model.loss([images]))
    assert loss.item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-4)
    loss.backward()
    assert gradient_of(model.mask_token).any()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_the_mask_embedding_is_there_where_squares_may_be_empty():
    assert mae().mask_token.std() > 0
    assert mae(masker=dict(type='UniformMasker', secondary=0.0)).mask_token is None
    assert mae(backbone=SMALL_BACKBONES['vit']).mask_token is None
    phases = [(0, dict(type='UniformMasker')), (2, dict(type='UniformMasker'))]
    assert mae(masker=dict(type='MaskerSchedule', phases=phases)).mask_token is not None


@pytest.mark.parametrize('batch', [1, 64])
@pytest.mark.parametrize(('height', 'width'), [(4, 4), (8, 6), (2, 2)])
@pytest.mark.parametrize('secondary', [0.0, 0.25])
def test_what_the_uniform_masker_promises(secondary, height, width, batch):
    counts = (
        (~squares(batch, height, width, secondary=secondary)).view(batch, height // 2, 2, width // 2, 2).sum(dim=(2, 4))
    )
    assert UniformMasker(secondary=secondary).visible_per_square == (0 if secondary else 1, 1)
    assert counts.max() <= 1 and (secondary > 0 or counts.min() == 1)
    assert UniformMasker(image_prob=0.9).visible_per_square is None and RandomMasker().visible_per_square is None
    mixed = [(0, UniformMasker()), (1, UniformMasker(secondary=0.0))]
    assert MaskerSchedule([(0, None), (1, UniformMasker())]).visible_per_square is None
    assert MaskerSchedule(mixed).visible_per_square is None
    assert MaskerSchedule(mixed[:1]).visible_per_square == (0, 1)


@pytest.mark.parametrize(
    ('parts', 'message'),
    [
        (
            dict(masker=dict(type='RandomMasker', ratio=0.75)),
            'MAE: .*RandomMasker does not promise: take UniformMasker',
        ),
        (dict(masker=dict(type='UniformMasker', image_prob=0.5)), 'UniformMasker does not promise.*image_prob=1'),
        (dict(mask_patch_size=64), r'MAE\.mask_patch_size is 64, but MaskedSwinTransformer .* 32 px each: leave'),
    ],
)
def test_what_does_not_fit_is_told_when_the_model_is_built(parts, message):
    with pytest.raises(UsageError, match=message):
        mae(**parts)


def test_views_with_an_odd_grid_are_told_before_the_run():
    with pytest.raises(UsageError, match=r'224 px is not divisible by 64 px, .*; use 192 or 256 px'):
        mae().check_views(224)


@pytest.mark.parametrize(
    ('shape', 'message'), [((3, 4), 'of a grid of 3x4 patches.*a multiple of 64 px'), ((4, 4), 'a mask leaves more')]
)
def test_other_masks_are_told(shape, message):
    mask = torch.zeros(1, *shape, dtype=torch.bool)
    mask[:, 0] = True
    with pytest.raises(UsageError, match=f'MaskedSwinTransformer .*{message}'):
        swin().forward_visible(torch.zeros(1, 3, shape[0] * SIDE, shape[1] * SIDE), mask)
