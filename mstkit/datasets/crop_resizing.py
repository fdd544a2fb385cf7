"""Cuts a box out of an image and brings it to a size: antialiased bicubic or bilinear interpolation, two ways.

Measured on one core on crops of photographs, DINO's ten views of each:

* ``torch`` (PyTorch's antialiased interpolation of uint8) takes a fifth of the time. Its weights have 15 bits, hence a
  value differs by one now and then: against Pillow's, PSNR is 74 dB at the median and 53 dB at the worst.
* ``pillow`` is what torchvision does to Pillow images, to the bit, and what mstkit did up to version 0.1.

OpenCV's ``INTER_AREA`` (43 dB, 33 at the worst) took twice as long as ``torch``, its cubic filter does not antialias.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

Box = tuple[int, int, int, int]
INTERPOLATION = {'bicubic': Image.Resampling.BICUBIC, 'bilinear': Image.Resampling.BILINEAR}


def resize_with_torch(image: np.ndarray, box: Box, size: int, interpolation: str = 'bicubic') -> np.ndarray:
    """Cuts and resizes with PyTorch.

    Args:
        image: (H, W, 3) uint8.
        box: left, top, width, height in pixels. The filter sees nothing beyond it.
        size: side of the result in pixels.
        interpolation: a key of :data:`INTERPOLATION`.

    Returns:
        (size, size, 3) uint8.
    """
    left, top, width, height = box
    # A copy of the box, so that the kernel gets memory without gaps. The order of the operations matters: it tells the
    # kernel that the channels come last, and so they do in what it returns.
    patch = torch.from_numpy(image[top : top + height, left : left + width].copy())[None].permute(0, 3, 1, 2)
    resized = functional.interpolate(patch, (size, size), mode=interpolation, antialias=True)
    return resized[0].permute(1, 2, 0).contiguous().numpy()


def resize_with_pillow(image: np.ndarray, box: Box, size: int, interpolation: str = 'bicubic') -> np.ndarray:
    """The same with Pillow."""
    left, top, width, height = box
    patch = Image.fromarray(np.ascontiguousarray(image[top : top + height, left : left + width]))
    return np.asarray(patch.resize((size, size), INTERPOLATION[interpolation]))


RESIZE: dict[str, Callable[[np.ndarray, Box, int, str], np.ndarray]] = {
    'torch': resize_with_torch,
    'pillow': resize_with_pillow,
}
