"""Color and blur operations on batches of images, (N, 3, H, W) RGB in 0..255 as float, on any device.

The same operations as :mod:`mstkit.datasets.image_photometric`, without rounding in between; one factor per image.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mstkit.utils.view_parameters import box_kernels

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow and OpenCV have it


def _luma(images: Tensor) -> Tensor:
    """Luma, (N, 3, H, W) -> (N, 1, H, W)."""
    red, green, blue = images.split(1, dim=1)
    return (_LUMA[0] * red).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])


def _per_image(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def adjust_brightness(images: Tensor, factors: Tensor) -> Tensor:
    """Scales all values; 0 gives black, 1 the image. ``factors`` is (N,)."""
    return (images * _per_image(factors)).clamp_(0, 255)


def adjust_contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Scales the distance from the image's mean gray; 0 gives a gray plane, 1 the image."""
    mean = _luma(images).mean(dim=(2, 3), keepdim=True)
    return torch.lerp(mean, images, _per_image(factors)).clamp_(0, 255)


def adjust_saturation(images: Tensor, factors: Tensor) -> Tensor:
    """Scales the distance from each pixel's gray; 0 gives a gray image, 1 the image."""
    return torch.lerp(_luma(images), images, _per_image(factors)).clamp_(0, 255)


def adjust_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turns the hue by ``turns`` of the color circle, in [-0.5, 0.5], in the HSV space.

    A channel of a pixel of hue h, in sixths of the circle, is V - C * clamp(min(k, 4 - k), 0, 1) with k = h + 5, 3, 1
    modulo 6 for red, green, blue; V is the largest channel and C its distance from the smallest. Source: Smith, "Color
    gamut transform pairs" (SIGGRAPH 1978), in the closed form that is in common use.
    """
    red, green, blue = images.split(1, dim=1)
    value = images.amax(dim=1, keepdim=True)
    chroma = value - images.amin(dim=1, keepdim=True)
    scale = chroma.clamp(min=1e-6).reciprocal_()  # without color the hue does not matter
    hue = torch.where(
        value == red,
        (green - blue) * scale,
        torch.where(value == green, (blue - red) * scale + 2, (red - green) * scale + 4),
    )
    hue += 6 * _per_image(turns)
    channels = []
    for place in (5, 3, 1):
        k = (hue + place).remainder_(6)
        channels.append(value - chroma * torch.minimum(k, 4 - k).clamp_(0, 1))
    return torch.cat(channels, dim=1)


def to_gray(images: Tensor) -> Tensor:
    """Luma in all three channels."""
    return _luma(images).expand_as(images)


def blur_steps(sigmas: np.ndarray) -> np.ndarray:
    """Cumulative sums of the blur kernels, from 0 to 1, on the CPU: sigmas (N,) -> (N, K + 1) float32."""
    sums = np.cumsum(box_kernels(sigmas), axis=1)
    sums /= sums[:, -1:]
    return np.pad(sums, ((0, 0), (1, 0))).astype(np.float32)


def gaussian_blur(images: Tensor, steps: Tensor) -> Tensor:
    """Gaussian blur as two matrix products, one along each side.

    A convolution would need a different kernel for every image, and ``cudnn_benchmark`` would search for the fastest
    algorithm in every step, since the number of blurred images changes.

    Args:
        images: (N, 3, H, W).
        steps: (N, K + 1), from :func:`blur_steps`, on the device of the images.
    """
    with torch.autocast(images.device.type, enabled=False):
        down = _blur_matrix(steps, images.shape[2])[:, None]  # (N, 1, H, H)
        across = down if images.shape[2] == images.shape[3] else _blur_matrix(steps, images.shape[3])[:, None]
        return down @ images @ across.transpose(2, 3)


def _blur_matrix(steps: Tensor, side: int) -> Tensor:
    """(N, side, side): row i holds the kernel around pixel i; weights beyond an edge are added to the edge pixel's."""
    taps = steps.shape[1] - 1
    positions = torch.arange(side + 1, device=steps.device)
    # The total weight of pixels 0..j-1 for pixel i is a cumulative sum of the kernel; 0 at j = 0 and 1 at j = side.
    index = (positions[None, :] - positions[:side, None] + taps // 2).clamp_(0, taps)
    index[:, 0], index[:, -1] = 0, taps
    return steps[:, index].diff(dim=2)


def solarize(images: Tensor, thresholds: Tensor) -> Tensor:
    """Inverts all values at or above the image's threshold. ``thresholds`` is (N,)."""
    return torch.where(images < _per_image(thresholds), images, 255 - images)
