"""The simple feature pyramid: its levels against written-out sums, sizes, gradients and mistakes."""

from __future__ import annotations

import pytest
import torch
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmpretrain.models import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.models import SimpleFPN

from .builders import TINY, gradient_of


def pyramid(**options) -> SimpleFPN:
    """With biases and affine weights that are not zeros and ones, as after training."""
    torch.manual_seed(0)
    built = SimpleFPN(**{'in_channels': 8, 'out_channels': 6, **options})
    for parameter in built.parameters():
        nn.init.normal_(parameter, std=0.5)
    return built


def levels_of(built: SimpleFPN) -> list[nn.Sequential]:
    levels = [level for level in built.levels if isinstance(level, nn.Sequential)]
    assert len(levels) == len(built.levels)
    return levels


def sizes(outputs: tuple[Tensor, ...]) -> list[tuple[int, ...]]:
    return [tuple(output.shape[2:]) for output in outputs]


def norm(x: Tensor, layer: nn.Module) -> Tensor:
    """Over the channels of each pixel, written out."""
    assert isinstance(layer.weight, Tensor) and isinstance(layer.bias, Tensor)
    mean, variance = x.mean(dim=1, keepdim=True), x.var(dim=1, unbiased=False, keepdim=True)
    weight, bias = layer.weight[:, None, None], layer.bias[:, None, None]
    return (x - mean) / (variance + 1e-6).sqrt() * weight + bias


def doubled(x: Tensor, layer: nn.Module) -> Tensor:
    """A 2×2 deconvolution of stride 2 written out: every pixel becomes a square of its own."""
    assert isinstance(layer, nn.ConvTranspose2d) and layer.bias is not None
    squares = torch.einsum('bchw,cdij->bdhiwj', x, layer.weight)
    return squares.flatten(4, 5).flatten(2, 3) + layer.bias[:, None, None]


def test_every_level_is_the_papers():
    built = pyramid(num_outs=6)
    x = torch.randn(2, 8, 5, 6)
    outputs = built((torch.randn(2, 8, 5, 6), x))
    four, two, one, half = levels_of(built)
    scaled = [
        doubled(F.gelu(norm(doubled(x, four[0]), four[1])), four[3]),
        doubled(x, two[0]),
        x,
        # Two by two, and the odd row at the end by itself.
        torch.stack([x[:, :, i : i + 2].amax(2) for i in (0, 2, 4)], dim=2).unflatten(3, (3, 2)).amax(4),
    ]
    for output, level, y in zip(outputs, (four, two, one, half), scaled, strict=False):
        to_width, first, mix, last = level[-4:]
        y = norm(torch.einsum('bchw,dc->bdhw', y, to_width.get_parameter('weight')[:, :, 0, 0]), first)
        y = norm(F.conv2d(y, mix.weight, padding=1), last)
        torch.testing.assert_close(output, y, rtol=1e-4, atol=1e-4)
    assert torch.equal(outputs[4], outputs[3][:, :, ::2, ::2])
    assert torch.equal(outputs[5], outputs[4][:, :, ::2, ::2])
    assert [type(layer) for layer in one] == [type(layer) for layer in half[1:]]


@pytest.mark.parametrize(
    ('factors', 'num_outs', 'grid', 'expected'),
    [
        ((4.0, 2.0, 1.0, 0.5), 5, (4, 6), [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]),
        ((4.0, 2.0, 1.0, 0.5), 5, (7, 5), [(28, 20), (14, 10), (7, 5), (4, 3), (2, 2)]),
        ([2, 1, 0.5, 0.25], 5, (13, 6), [(26, 12), (13, 6), (7, 3), (4, 2), (2, 1)]),
        ((4, 2, 1, 0.5, 0.25), 6, (1, 1), [(4, 4), (2, 2), (1, 1), (1, 1), (1, 1), (1, 1)]),
        ((1.0,), 1, (3, 2), [(3, 2)]),
    ],
)
def test_sizes(factors, num_outs, grid, expected):
    outputs = pyramid(scale_factors=factors, num_outs=num_outs)((torch.randn(2, 8, *grid),))
    assert isinstance(outputs, tuple)
    assert sizes(outputs) == expected
    assert all(output.shape[:2] == (2, 6) for output in outputs)


@pytest.mark.parametrize(('patch', 'factors'), [(16, (4, 2, 1, 0.5)), (8, (2, 1, 0.5, 0.25))])
def test_strides_behind_a_plain_transformer(patch, factors):
    """Strides 4, 8, 16, 32 and 64, on an image that is no multiple of them."""
    backbone = VisionTransformer(TINY, img_size=64, patch_size=patch, out_type='featmap', out_indices=[1, 2])
    built = pyramid(in_channels=48, scale_factors=factors)
    built.init_weights()
    maps = backbone(torch.randn(1, 3, 112, 80))
    assert len(maps) == 2
    outputs = built(maps)
    assert sizes(outputs) == [(-(-112 // stride), -(-80 // stride)) for stride in (4, 8, 16, 32, 64)]
    assert torch.equal(built(maps[1:])[0], outputs[0]), 'only the last map is used'


def test_every_parameter_is_used_and_the_gradient_reaches_the_map():
    built = pyramid(scale_factors=(4, 2, 1, 0.5, 0.25), num_outs=5)
    x = torch.randn(2, 8, 4, 4, requires_grad=True)
    for index, output in enumerate(built((x,))):
        built.zero_grad()
        x.grad = None
        (output * torch.randn_like(output)).sum().backward(retain_graph=True)
        assert gradient_of(x).abs().sum() > 0, f'level {index}'
        reached = {name for name, parameter in built.named_parameters() if parameter.grad is not None}
        assert reached == {name for name, _ in built.named_parameters() if name.startswith(f'levels.{index}.')}
        assert all(p.grad is None or p.grad.abs().sum() > 0 for p in built.parameters())


def test_it_is_built_from_configs_of_other_scopes():
    config = dict(type='mstkit.SimpleFPN', in_channels=8, _scope_='mmpretrain')
    assert len(MMENGINE_MODELS.build(config)((torch.randn(1, 8, 2, 2),))) == 5


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(in_channels=0), 'in_channels is 0: give a whole number'),
        (dict(out_channels=2.5), 'out_channels is 2.5: give a whole number'),
        (dict(num_outs='5'), "num_outs is '5': give a whole number"),
        (dict(num_outs=3), r'num_outs=3 is less than the 4 scale_factors'),
        (dict(in_channels=6), 'in_channels=6 .* take a multiple of 4'),
        (dict(in_channels=7, scale_factors=(2, 1)), 'in_channels=7 .* take a multiple of 2'),
        (dict(scale_factors=(8, 4)), r'scale_factors are some of .*, not \(8, 4\)'),
        (dict(scale_factors=()), r'scale_factors are some of .*, not \(\)'),
        (dict(scale_factors=4), 'scale_factors is 4: give a list'),
        (dict(scale_factors=(1, 2)), r'scale_factors go from the largest to the smallest, unlike \(1, 2\)'),
        (dict(scale_factors=(1, 1)), r'scale_factors go from the largest to the smallest, unlike \(1, 1\)'),
    ],
)
def test_mistakes_are_told(options, message):
    with pytest.raises(UsageError, match=rf'SimpleFPN[:.] ?{message}'):
        pyramid(**options)


@pytest.mark.parametrize(
    ('inputs', 'given'),
    [
        (torch.randn(1, 8, 4, 4), r'one tensor \(1, 8, 4, 4\)'),
        ((torch.randn(2, 8),), r'one \(2, 8\) last'),
        ((torch.randn(1, 8, 4, 4), torch.randn(1, 16, 2, 2)), r'one \(1, 16, 2, 2\) last'),
    ],
)
def test_what_is_no_map_is_refused(inputs, given):
    with pytest.raises(UsageError, match=rf"\(B, 8, h, w\), not {given}: .*out_type='featmap'"):
        pyramid()(inputs)


def test_odd_channels_are_fine_where_nothing_is_halved():
    assert pyramid(in_channels=7, scale_factors=(1, 0.5), num_outs=2)((torch.randn(1, 7, 4, 4),))[1].shape[2:] == (2, 2)
