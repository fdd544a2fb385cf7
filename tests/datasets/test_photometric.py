"""Each operation against torchvision's on Pillow images: a mean absolute difference of at most 2 of 255."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
import torchvision.transforms.functional as functional
from PIL import Image, ImageFilter

from mstkit.datasets import image_photometric
from mstkit.models.data_preprocessors import batch_photometric
from mstkit.utils.view_parameters import blur_kernel, box_kernels


def toy_images() -> list[np.ndarray]:
    """A smooth colorful image, pure noise, and a gray one with flat areas."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((64, 48), Image.Resampling.BICUBIC))
    noise = rng.integers(0, 256, (33, 47, 3), dtype=np.uint8)
    flat = np.repeat(np.asarray([0, 40, 128, 255], np.uint8), 64).reshape(16, 16, 1).repeat(3, 2)
    return [smooth, noise, flat]


def assert_close(ours: np.ndarray, theirs: Image.Image, mean: float = 2.0) -> None:
    assert ours.dtype == np.uint8 and ours.shape == (theirs.height, theirs.width, 3)
    assert np.abs(ours.astype(int) - np.asarray(theirs).astype(int)).mean() <= mean


@pytest.mark.parametrize('image', toy_images(), ids=['smooth', 'noise', 'flat'])
class TestAgainstTorchvision:
    @pytest.mark.parametrize('factor', [0.0, 0.6, 0.83, 1.0, 1.4])
    def test_factors(self, image, factor):
        pil = Image.fromarray(image)
        kept = image.copy()
        assert_close(
            image_photometric.adjust_brightness(image, factor), functional.adjust_brightness(pil, factor), 0.01
        )
        assert_close(image_photometric.adjust_contrast(image, factor), functional.adjust_contrast(pil, factor), 1.0)
        assert_close(image_photometric.adjust_saturation(image, factor), functional.adjust_saturation(pil, factor), 1.0)
        np.testing.assert_array_equal(image, kept)

    @pytest.mark.parametrize('turn', [-0.5, -0.1, -0.03, 0.0, 0.07, 0.1, 0.5])
    def test_hue(self, image, turn):
        assert_close(image_photometric.adjust_hue(image, turn), functional.adjust_hue(Image.fromarray(image), turn))

    def test_gray(self, image):
        assert_close(image_photometric.to_gray(image), functional.to_grayscale(Image.fromarray(image), 3), 0.5)

    @pytest.mark.parametrize('threshold', [0, 1, 128, 255, 256])
    def test_solarize(self, image, threshold):
        pil = Image.fromarray(image)
        assert_close(image_photometric.solarize(image, threshold), functional.solarize(pil, threshold), 0.0)

    def test_flip(self, image):
        assert_close(image_photometric.flip_horizontally(image), functional.hflip(Image.fromarray(image)), 0.0)

    @pytest.mark.parametrize('sigma', [0.1, 0.3, 0.5, 1.0, 1.5, 2.0])
    def test_blur(self, image, sigma):
        pil = Image.fromarray(image)
        blurred = image_photometric.gaussian_blur(image, sigma)
        assert_close(blurred, pil.filter(ImageFilter.GaussianBlur(sigma)))
        # torchvision samples the Gaussian at whole pixels, which is another filter when it is narrow, and reflects at
        # the border, which it can only where the image is larger than the kernel.
        if sigma >= 1 and min(image.shape[:2]) > 16:
            assert_close(blurred, functional.gaussian_blur(pil, 15, sigma), 3.0)


def test_blending_truncates_as_pillow_does():
    levels = np.arange(256, dtype=np.uint8)
    image = levels.reshape(16, 16, 1).repeat(3, 2)
    draws = np.random.default_rng(0)
    whole = [0.0, 0.25, 0.5, 1.0, 1.5, 2.0]  # whose products are whole numbers, which must not become less
    differ = 0
    for factor in whole + draws.uniform(0, 2, 300).tolist():
        # The mean of this image is 127.5, which Pillow rounds up.
        for operation, exact in (
            (image_photometric.adjust_brightness, factor * levels.astype(np.float64)),
            (image_photometric.adjust_contrast, 128 + factor * (levels - 128.0)),
        ):
            wanted = np.clip(np.trunc(exact), 0, 255).astype(int)
            found = operation(image, factor)
            assert (found == found[..., :1]).all()
            off = np.abs(found[..., 0].ravel().astype(int) - wanted)
            assert off.max() <= (0 if factor in whole else 1)
            differ += np.count_nonzero(off)
    assert differ <= 306 * 2 * 256 / 5000  # where float32 cannot tell a value from the next whole number


def test_a_hue_turns_alone_and_wraps_around():
    image = toy_images()[1]
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    for turn in (-0.3, 0.2, 0.45):
        turned = np.stack([(hsv[..., 0].astype(int) + int(turn * 255)) % 256, hsv[..., 1], hsv[..., 2]], -1)
        wanted = cv2.cvtColor(turned.astype(np.uint8), cv2.COLOR_HSV2RGB_FULL)
        np.testing.assert_array_equal(image_photometric.adjust_hue(image, turn), wanted, strict=True)


@pytest.mark.parametrize('size', [79, 80, 133])
def test_a_hue_turns_to_what_it_is_by_its_definition(size):
    levels = np.array([0, 1, 2, 17, 50, 127, 128, 200, 254, 255], np.uint8)
    image = np.resize(np.stack(np.meshgrid(levels, levels, levels), -1), (size, size, 3)).astype(np.uint8)
    most = 0.51 if size >= 80 else 15
    for turn in [*np.linspace(-0.5, 0.5, 41).tolist(), 1 / 12, -1 / 12, 1 / 6, 0.25]:
        turns = torch.tensor([int(turn * 255) / 255])
        exact = batch_photometric.adjust_hue(torch.from_numpy(image).permute(2, 0, 1)[None].float(), turns)
        turned = image_photometric.adjust_hue(image, turn)
        assert turned.dtype == np.uint8 and turned.flags.c_contiguous
        assert np.abs(turned - exact[0].permute(1, 2, 0).numpy()).max() <= most
    np.testing.assert_array_equal(image_photometric._turn_planes(image, 0.0), image, strict=True)


def test_what_a_blur_leaves_out_is_little_more_than_rounding():
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    edges = np.zeros((96, 96, 3), np.uint8)
    edges[:, 48:] = 255
    for sigma in np.linspace(0.1, 2.0, 39):
        for each in (image, edges):
            kernel = blur_kernel(sigma)
            whole = cv2.sepFilter2D(each.astype(np.float64), -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE)
            off = np.abs(image_photometric.gaussian_blur(each, sigma) - whole)
            assert off.max() <= 1.1 and off.mean() <= 0.29  # rounding alone: 0.25
    assert (image_photometric.gaussian_blur(np.full((9, 9, 3), 255, np.uint8), 0.25) == 255).all()


def test_read_only_and_tiny_images():
    pixel, large = np.full((1, 1, 3), 200, np.uint8), np.full((90, 91, 3), 200, np.uint8)
    pixel.setflags(write=False)
    large.setflags(write=False)
    for operation, argument in (
        (image_photometric.adjust_brightness, 0.5),
        (image_photometric.adjust_contrast, 0.5),
        (image_photometric.adjust_saturation, 0.5),
        (image_photometric.adjust_hue, 0.1),
        (image_photometric.gaussian_blur, 2.0),
        (image_photometric.solarize, 128),
    ):
        assert operation(pixel, argument).shape == (1, 1, 3)
        assert operation(large, argument).shape == (90, 91, 3)


@pytest.mark.parametrize('sigma', [0.1, 0.25, 0.4, 0.7, 1.0, 1.7, 3.0])
def test_the_blur_has_the_width_that_was_asked_for(sigma):
    kernel = box_kernels(np.array([sigma]))[0]
    positions = np.arange(len(kernel)) - len(kernel) // 2
    assert len(kernel) % 2 == 1 and kernel.min() >= 0
    np.testing.assert_allclose([kernel.sum(), (kernel * positions**2).sum()], [1, sigma**2], rtol=1e-9)


def test_one_kernel_is_that_of_many_to_the_last_bit():
    for sigma in np.random.default_rng(0).uniform(0.05, 4, 300).tolist():
        np.testing.assert_array_equal(blur_kernel(sigma), box_kernels(np.array([sigma]))[0], strict=True)


@pytest.mark.parametrize('side', [1, 2, 31, 32, 63, 64, 65, 224])
def test_mirroring_is_opencvs_at_every_size(side):
    image = np.random.default_rng(side).integers(0, 256, (side + 1, side, 3), np.uint8)
    for view in (image, image[::-1, ::-1]):
        mirrored = image_photometric.flip_horizontally(view)
        np.testing.assert_array_equal(mirrored, cv2.flip(np.ascontiguousarray(view), 1), strict=True)
        assert mirrored.flags.c_contiguous
