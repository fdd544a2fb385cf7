"""Images with a depth for each pixel, at one size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mstkit.datasets.depth_pairs import DepthPair, read_depth, same_view
from mstkit.datasets.image_reader import UnreadableImage, read_image
from mstkit.errors import UsageError
from mstkit.utils.progress_bar import track


class DepthImages(NamedTuple):
    """Images and their depth, at one size.

    Attributes:
        images: (M, 3, S, S) uint8, RGB.
        depth: (M, S, S) float32, 0 where it is unknown.
    """

    images: Tensor
    depth: Tensor


def read_pairs(pairs: Sequence[DepthPair], size: int, units: float | None = None, what: str = 'images') -> DepthImages:
    """Reads pairs: the shorter side becomes ``size`` pixels, of the longer one the middle stays.

    Images are resized bicubically; a pixel of the depth map is that of the nearest one.

    Args:
        pairs: the files.
        size: in pixels.
        units: see :func:`~mstkit.datasets.depth_pairs.read_depth`.
        what: for the progress bar.

    Raises:
        UsageError: a file cannot be read, an image and its depth differ in their shape, or no depth is known.
    """
    images = torch.empty(len(pairs), 3, size, size, dtype=torch.uint8)
    depth = torch.empty(len(pairs), size, size)
    for row, pair in enumerate(track(pairs, len(pairs), what)):
        try:
            pixels = read_image(pair.image)
        except UnreadableImage as error:
            raise UsageError(f'{error}: copy it again, or remove it and its depth map.') from error
        values = read_depth(pair.depth, units)
        (height, width), (rows, columns) = pixels.shape[:2], values.shape
        if not same_view((height, width), (rows, columns)):
            raise UsageError(
                f'{pair.image} has {width}x{height} pixels and its depth map {columns}x{rows}: they show not the same.'
            )
        images[row] = torch.from_numpy(_middle(Image.fromarray(pixels), size, Image.Resampling.BICUBIC)).movedim(2, 0)
        depth[row] = torch.from_numpy(_middle(Image.fromarray(values), size, Image.Resampling.NEAREST))
    if not bool((depth > 0).any()):
        raise UsageError(f'no depth is known in any of {len(pairs)} maps, such as {pairs[0].depth}.')
    return DepthImages(images, depth)


def _middle(image: Image.Image, size: int, resample: Image.Resampling) -> np.ndarray:
    """The middle square of an image, resized."""
    side = min(image.size)
    left, top = ((whole - side) / 2 for whole in image.size)
    # A copy: the array that Pillow gives cannot be written to, of which torch warns.
    return np.array(image.resize((size, size), resample, (left, top, left + side, top + side)))
