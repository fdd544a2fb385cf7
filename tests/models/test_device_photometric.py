"""Each operation on the device against torchvision's on Pillow images: a mean absolute difference of at most 2."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as functional
from PIL import Image, ImageFilter
from torch import Tensor

from mstkit.models.data_preprocessors import batch_photometric


def toy_images() -> list[Image.Image]:
    """A smooth colorful image, pure noise, and a gray one with flat areas; all 48 x 64."""
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((64, 48), 3)
    noise = Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    flat = np.repeat(np.asarray([0, 40, 128, 255], np.uint8), 768).reshape(48, 64, 1).repeat(3, 2)
    return [smooth, noise, Image.fromarray(flat)]


def batch() -> Tensor:
    return torch.stack([functional.pil_to_tensor(image) for image in toy_images()]).float()


def assert_close(ours: Tensor, theirs: list[Image.Image], mean: float = 2.0) -> None:
    assert ours.shape == (3, 3, 48, 64) and ours.dtype == torch.float32
    assert float(ours.min()) >= 0 and float(ours.max()) <= 255.001
    expected = torch.stack([functional.pil_to_tensor(image) for image in theirs]).float()
    assert (ours - expected).abs().mean(dim=(1, 2, 3)).max() <= mean


# The images of one batch get different factors.
FACTORS = [(0.0, 0.6, 1.0), (1.4, 0.83, 0.0), (1.0, 1.2, 0.7)]


@pytest.mark.parametrize('factors', FACTORS)
@pytest.mark.parametrize('name', ['brightness', 'contrast', 'saturation'])
def test_factors(name, factors):
    ours = getattr(batch_photometric, f'adjust_{name}')(batch(), torch.tensor(factors))
    theirs = getattr(functional, f'adjust_{name}')
    assert_close(ours, [theirs(image, factor) for image, factor in zip(toy_images(), factors, strict=True)], 1.0)


@pytest.mark.parametrize('turns', [(-0.5, 0.5, 0.2), (-0.1, 0.1, 0.0), (0.07, -0.03, 0.1)])
def test_hue(turns):
    ours = batch_photometric.adjust_hue(batch(), torch.tensor(turns))
    assert_close(ours, [functional.adjust_hue(*pair) for pair in zip(toy_images(), turns, strict=True)])
    exact = [functional.adjust_hue(image / 255, turn) * 255 for image, turn in zip(batch(), turns, strict=True)]
    torch.testing.assert_close(ours, torch.stack(exact), rtol=0, atol=0.01)


def test_gray():
    assert_close(batch_photometric.to_gray(batch()), [functional.to_grayscale(image, 3) for image in toy_images()], 0.6)


@pytest.mark.parametrize('thresholds', [(0, 1, 128), (255, 256, 60)])
def test_solarize(thresholds):
    ours = batch_photometric.solarize(batch(), torch.tensor(thresholds, dtype=torch.float32))
    assert_close(ours, [functional.solarize(*pair) for pair in zip(toy_images(), thresholds, strict=True)], 0.0)


@pytest.mark.parametrize('sigmas', [(0.1, 0.5, 2.0), (1.5, 0.3, 1.0), (0.2, 0.2, 0.2)])
def test_blur(sigmas):
    ours = batch_photometric.gaussian_blur(batch(), torch.from_numpy(batch_photometric.blur_steps(np.array(sigmas))))
    theirs = [image.filter(ImageFilter.GaussianBlur(sigma)) for image, sigma in zip(toy_images(), sigmas, strict=True)]
    assert_close(ours, theirs)


def test_blur_keeps_a_plane_and_its_precision_under_autocast():
    steps = torch.from_numpy(batch_photometric.blur_steps(np.array([2.0])))
    plane = torch.full((1, 3, 5, 9), 77.0)  # smaller than the kernel
    torch.testing.assert_close(batch_photometric.gaussian_blur(plane, steps), plane)
    noise = torch.rand(1, 3, 32, 32) * 255
    with torch.autocast('cpu', torch.bfloat16):
        blurred = batch_photometric.gaussian_blur(noise, steps)
    assert blurred.dtype == torch.float32
    torch.testing.assert_close(blurred, batch_photometric.gaussian_blur(noise, steps))
