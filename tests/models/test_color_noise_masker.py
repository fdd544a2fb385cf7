"""Masks of filtered noise are those of a plain loop over pixels, and have the frequencies of their color."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from mstkit.errors import UsageError
from mstkit.models import ColorNoiseMasker, Masker, RandomMasker
from mstkit.structures import MaskContext, Progress

COLORS = ('red', 'blue', 'green', 'purple')


def hidden_by(masker: Masker, grid: tuple[int, int], images: int, iteration: int = 0) -> torch.Tensor:
    masker.set_progress(Progress(iteration, 100, 10, 1, iteration))
    return masker(MaskContext(torch.zeros(images, 3, 1, 1), grid))


def by_a_plain_loop(white: list[list[float]], grid: tuple[int, int], margin: int, color: str, sigma) -> list[float]:
    """Filtered noise, one sum over two dimensions for each patch."""
    around = range(-margin, margin + 1)
    found = []
    for row, column in itertools.product(range(grid[0]), range(grid[1])):
        here = white[row + margin][column + margin]
        blurs = []
        for one in sigma:
            total = weight = 0.0
            for down, right in itertools.product(around, around):
                share = math.exp(-(down**2 + right**2) / (2 * one**2))
                total += share * white[row + margin + down][column + margin + right]
                weight += share
            blurs.append(total / weight)
        narrow, wide = blurs
        colors = dict(red=narrow, blue=here - narrow, green=narrow - wide, purple=here - (narrow - wide))
        found.append(colors[color])
    return found


@pytest.mark.parametrize('color', COLORS)
def test_masks_are_those_of_a_plain_loop(color):
    grid, sigma, margin = (3, 5), (0.6, 1.1), 4
    masker = ColorNoiseMasker(0.6, color=color, sigma=sigma)
    generator = torch.Generator()
    found = masker.noise(2, grid, generator.manual_seed(4))
    white = torch.randn(2, 3 + 2 * margin, 5 + 2 * margin, generator=generator.manual_seed(4)).tolist()
    mask = masker.choose(MaskContext(torch.zeros(2, 3, 1, 1), grid), torch.tensor([[9], [2]]), generator.manual_seed(4))
    for image, count in enumerate((9, 2)):
        expected = by_a_plain_loop(white[image], grid, margin, color, sigma)
        assert found[image].flatten().tolist() == pytest.approx(expected, abs=1e-5)
        weakest = sorted(range(15), key=expected.__getitem__)[:count]
        assert sorted(weakest) == mask[image].nonzero().flatten().tolist(), 'the strongest stay visible'


@pytest.mark.parametrize('color', COLORS)
@pytest.mark.parametrize('grid', [(14, 14), (5, 9), (1, 1)])
def test_counts_are_exact(color, grid):
    length = grid[0] * grid[1]
    for ratio in (0.0, 0.4, 0.75, 1.0):
        masker = ColorNoiseMasker(ratio, color=color)
        assert (hidden_by(masker, grid, 16).flatten(1).sum(1) == int(ratio * length)).all()
        assert masker.equal_counts


def power(color: str, images: int = 200, side: int = 32) -> torch.Tensor:
    """Mean power at each frequency, cycles per patch in both axes, relative to that of white noise."""
    noise = ColorNoiseMasker(color=color).noise(images, (side, side), torch.Generator().manual_seed(0))
    return torch.fft.rfft2(noise).abs().square().mean(0) / side**2


@pytest.mark.parametrize('color', COLORS)
def test_noise_has_the_frequencies_of_its_color(color):
    """The response of a Gaussian of standard deviation s at frequency f is exp(-2 (pi s f)²)."""
    frequencies = torch.fft.fftfreq(32)[:, None] ** 2 + torch.fft.rfftfreq(32)[None] ** 2
    narrow, wide = (torch.exp(-2 * (math.pi * one) ** 2 * frequencies) for one in (1.0, 2.0))
    response = dict(red=narrow, blue=1 - narrow, green=narrow - wide, purple=1 - narrow + wide)[color] ** 2
    # A window of 32 patches mixes neighboring frequencies, most where little is left at one of them.
    assert (power(color) - response).abs().max() < 0.35
    assert (power(color) - response).abs().mean() < 0.05


def alike(hidden: torch.Tensor, distance: int) -> float:
    """How often patches at a distance within a row are both hidden or both visible."""
    return float((hidden[:, :, distance:] == hidden[:, :, :-distance]).float().mean())


def test_neighbors_go_together_by_color():
    found = {color: hidden_by(ColorNoiseMasker(0.5, color=color), (14, 14), 300) for color in COLORS}
    chance = alike(hidden_by(RandomMasker(ratio=0.5), (14, 14), 300), 1)
    assert alike(found['red'], 1) > alike(found['green'], 1) > chance + 0.2
    assert alike(found['blue'], 1) < chance - 0.02
    assert alike(found['green'], 4) < chance - 0.02, 'patches of about the same size alternate'
    assert alike(found['red'], 4) > alike(found['green'], 4)
    assert torch.equal(found['red'], hidden_by(ColorNoiseMasker(0.5, color='red'), (14, 14), 300))


@pytest.mark.parametrize('color', COLORS)
def test_no_place_is_special(color):
    hidden = hidden_by(ColorNoiseMasker(0.75, color=color), (6, 9), 8000).float().mean(0)
    assert hidden.mean().item() == pytest.approx(40 / 54)
    assert (hidden - 40 / 54).abs().max() < 0.06
    deviation = math.sqrt(2 * 0.75 * 0.25 / 8000)
    for mirrored in (hidden.flip(0), hidden.flip(1)):
        assert (hidden - mirrored).abs().max() < 5 * deviation, 'flips would change nothing'


def test_not_in_half_precision_under_autocast():
    generator = torch.Generator()
    expected = ColorNoiseMasker().noise(2, (6, 6), generator.manual_seed(0))
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(ColorNoiseMasker().noise(2, (6, 6), generator.manual_seed(0)), expected)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(ratio=1.2), r'ColorNoiseMasker.ratio is 1\.2'),
        (dict(color='grean'), "ColorNoiseMasker.color is 'grean'.* Did you mean green"),
        (dict(sigma=(0, 1)), r'ColorNoiseMasker.sigma\[0\] is 0'),
        (dict(sigma=(1, 65)), r'ColorNoiseMasker.sigma\[1\] is 65'),
        (dict(sigma=(2, 1)), 'the smaller number first'),
        (dict(sigma=1.0), 'ColorNoiseMasker.sigma is 1.0'),
    ],
)
def test_mistakes_are_told(settings, message):
    with pytest.raises(UsageError, match=message):
        ColorNoiseMasker(**settings)


def test_repr_says_what_differs():
    assert repr(ColorNoiseMasker()) == "ColorNoiseMasker(ratio=0.75, color='green')"
    assert repr(ColorNoiseMasker(color='red', sigma=(1, 3))) == (
        "ColorNoiseMasker(ratio=0.75, color='red', sigma=(1.0, 3.0))"
    )
