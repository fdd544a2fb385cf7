"""data2vec 2.0: its decoder against plain loops, and a step against its formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.models import ConvDecoder, Step
from mstkit.structures import TokenOutput, VisibleOutput, averages_patches
from tests.models.builders import VIT
from tests.models.mim_models import Given, build, images, masks
from tests.models.parity import in_float64


def plain_normalized(x: Tensor) -> Tensor:
    centered = x - x.mean()
    return centered / ((centered**2).mean() + 1e-5).sqrt()


def plain_convolutions(x: Tensor, weights: dict[str, Tensor], name: str, layers: int, groups: int) -> Tensor:
    """Of one image (h, w, C), patch by patch; with a linear layer at the end."""
    height, width, _ = x.shape
    for layer in range(layers):
        kernel, bias = weights[f'{name}.layers.{layer}.weight'], weights[f'{name}.layers.{layer}.bias']
        side, made = kernel.shape[2], []
        for i in range(height):
            for j in range(width):
                total = bias.clone()
                for down in range(side):
                    for across in range(side):
                        row, column = i + down - side // 2, j + across - side // 2
                        if 0 <= row < height and 0 <= column < width:
                            parts = x[row, column].chunk(groups)
                            mixed = [
                                k[:, :, down, across] @ part
                                for k, part in zip(kernel.chunk(groups), parts, strict=True)
                            ]
                            total = total + torch.cat(mixed)
                normal = plain_normalized(total)
                made.append(normal * 0.5 * (1 + torch.erf(normal / math.sqrt(2))))
        found = torch.stack(made).view(height, width, -1)
        x = x + found if found.shape == x.shape else found
    return x @ weights[f'{name}.predict.weight'].T + weights[f'{name}.predict.bias']


@pytest.mark.parametrize(('width', 'kernel'), [(None, 3), (24, 3), (12, 5)])
def test_it_is_convolutions_over_the_grid(width, kernel):
    torch.manual_seed(0)
    decoder = ConvDecoder(12, 7, embed_dims=width, num_layers=3, kernel_size=kernel, groups=4).double()
    tokens = torch.randn(2, 15, 12, dtype=torch.float64)
    found = decoder(TokenOutput(tokens, tokens[:, 0], (3, 5)))
    weights = {f'decoder.{name}': one for name, one in decoder.named_parameters()}
    for image, predicted in zip(tokens, found, strict=True):
        expected = plain_convolutions(image.view(3, 5, 12), weights, 'decoder', 3, 4)
        torch.testing.assert_close(predicted, expected.flatten(0, 1), rtol=1e-9, atol=1e-9)


def seen_of(counts: tuple[int, int], thrown: Tensor | None = None) -> VisibleOutput:
    """Two images of 3 x 5 patches, with so many visible ones."""
    generator = torch.Generator().manual_seed(3)
    places = torch.full((2, max(counts)), -1)
    tokens = torch.zeros(2, max(counts), 12)
    for image, count in enumerate(counts):
        places[image, :count] = torch.randperm(15, generator=generator)[:count].sort().values
        tokens[image, :count] = torch.randn(count, 12, generator=generator)
    return VisibleOutput(tokens, tokens[:, 0], places, (3, 5), thrown=thrown, padded=counts[0] != counts[1])


def test_hidden_places_are_noise_in_training_and_nothing_in_evaluation():
    decoder = ConvDecoder(12, 7, visible_only=True, num_layers=2, groups=4, noise_std=0.5)
    seen = seen_of((4, 6))
    torch.manual_seed(1)
    first, second = decoder(seen), decoder(seen)
    torch.manual_seed(1)
    assert torch.equal(decoder(seen), first) and not torch.equal(first, second)
    decoder.eval()
    found = decoder(seen)
    whole = torch.zeros(2, 15, 12)
    for image, count in enumerate((4, 6)):
        whole[image, seen.places[image, :count]] = seen.patch_tokens[image, :count]
    expected = decoder(TokenOutput(whole, whole[:, 0], (3, 5)))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    noise = ConvDecoder(12, 7, visible_only=True, noise_std=0.5, groups=4)._noise(seen.patch_tokens, seen)
    assert noise.std() == pytest.approx(0.5, rel=0.1) and abs(float(noise.mean())) < 0.06


def test_thrown_patches_have_no_noise():
    thrown = torch.zeros(2, 3, 5, dtype=torch.bool)
    seen = seen_of((4, 6))
    free = [place for place in range(15) if place not in seen.places[0]][:2]
    thrown[0].view(-1)[free] = True
    noise = ConvDecoder(12, 7, visible_only=True, groups=4)._noise(seen.patch_tokens, seen._replace(thrown=thrown))
    assert not noise[0, free].any() and (noise[1] != 0).any(dim=1).all() and (noise[0] != 0).any(dim=1).sum() == 14


@pytest.mark.parametrize('masks_per_image', [1, 2])
def test_a_step_is_that_of_its_formulas(masks_per_image):
    """The teacher's layers, normalized over patches, and their mean over channels; the squared error of hidden ones."""
    each = masks(4, 4, (12, 13, 9))
    model = build(
        'Data2Vec2',
        backbone=VIT,
        masker=Given(each),
        target=dict(type='TeacherLayers', top=2, norm='instance', norm_mean=True),
        decoder=dict(num_layers=2, noise_std=0.0),
        masks_per_image=masks_per_image,
    )
    with torch.no_grad():
        for parameter in model.teacher.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    shown = images()
    loss = model.loss([shown])['loss_predict']
    loss.backward()
    weights = in_float64(model)
    step = Step(model, [shown], copies=1)
    with torch.no_grad():
        layers = [one.double() for one in model.teacher.backbone.forward_tokens(shown, layers=2).layers]
        known = step.visible
    errors = []
    for image, hidden in enumerate(each):
        normal = [torch.stack([plain_normalized(channel) for channel in one[image].T], dim=1) for one in layers]
        target = [plain_normalized(patch) for patch in torch.stack(normal).mean(dim=0)]
        whole = torch.zeros(16, 48, dtype=torch.float64)
        count = int((~hidden).sum())
        whole[known.places[image, :count]] = known.patch_tokens[image, :count].double()
        predicted = plain_convolutions(whole.view(4, 4, 48), weights, 'objectives.predict.decoder', 2, 16).flatten(0, 1)
        errors += [((predicted[k] - target[k]) ** 2).mean() for k in hidden.flatten().nonzero().squeeze(1).tolist()]
    expected = torch.stack(errors).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    expected.backward()
    decoder = {name: one for name, one in weights.items() if 'decoder' in name}
    for name, parameter in model.named_parameters():
        if name in decoder:
            assert parameter.grad is not None and decoder[name].grad is not None
            torch.testing.assert_close(parameter.grad.double(), decoder[name].grad, rtol=1e-3, atol=1e-5)


def test_what_it_is_by_default():
    model = build('Data2Vec2', masks_per_image=16)
    assert model.masks_per_image == 16 and model.encoder_sees == 'visible'
    assert averages_patches(model.backbone)
    assert isinstance(model.objectives['predict'].decoder, ConvDecoder)
    mask = Step(model, [images()]).mask
    assert mask is not None and mask.shape == (48, 4, 4) and (mask.flatten(1).sum(dim=1) == 12).all()
    assert model.teacher.momentum == pytest.approx(0.9998)


@pytest.mark.parametrize(
    ('own', 'message'),
    [
        (dict(groups=5), r'groups is 5, which does not divide the 48 of in_channels'),
        (dict(embed_dims=40), r'groups is 16, which does not divide the 40 of embed_dims'),
        (dict(kernel_size=4), 'kernel_size is 4: give an odd number'),
        (dict(scale=2.0), 'ConvDecoder predicts one cell per patch, but scale is 2'),
    ],
)
def test_mistakes(own, message):
    with pytest.raises(UsageError, match=message):
        build('Data2Vec2', decoder=own)
