"""Images with a depth for each pixel, in the layout of mmseg's NYU-Depth v2.

A folder holds ``images/SPLIT`` and ``annotations/SPLIT``, in which an image and its depth map have the same name but
for the suffix. Depth maps are PNG or TIFF files of 16 bits, TIFF files of floats, or NumPy's ``.npy``; 0 and what is
not finite is unknown.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mstkit.datasets.folder_scan import scan_folder
from mstkit.datasets.image_reader import UnreadableImage, read_image
from mstkit.errors import UsageError
from mstkit.utils.home_folder import expanded
from mstkit.utils.progress_bar import track

DEPTH_EXTENSIONS = ('.png', '.tif', '.tiff', '.npy')
UNITS = 1000.0  # in a meter, of files of whole numbers


class DepthPair(NamedTuple):
    """The files of an image and of its depth."""

    image: Path
    depth: Path


class DepthImages(NamedTuple):
    """Images and their depth, at one size.

    Attributes:
        images: (M, 3, S, S) uint8, RGB.
        depth: (M, S, S) float32, 0 where it is unknown.
    """

    images: Tensor
    depth: Tensor


def find_pairs(root: str | os.PathLike[str], split: str) -> list[DepthPair]:
    """The pairs of a split, in the order of their names.

    Raises:
        UsageError: a folder is missing or empty, or an image has no depth map.
    """
    folders = [expanded(root) / kind / split for kind in ('images', 'annotations')]
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(
                f'there is no folder {folder}: depth is read from images/{split} and annotations/{split} of a folder.'
            )
    found = scan_folder(str(folders[0]))
    if not found.images:
        raise UsageError(f'{folders[0]} holds no images{found.ignored_in_words()}.')
    depths = {_name(path): folders[1] / path for path in scan_folder(str(folders[1]), DEPTH_EXTENSIONS).images}
    missing = [path for path in found.images if _name(path) not in depths]
    if missing:
        raise UsageError(
            f'{len(missing)} of {len(found.images)} images in {folders[0]} have no depth map in {folders[1]}, the '
            f'first: {_name(missing[0])} (with {", ".join(DEPTH_EXTENSIONS)}).'
        )
    return [DepthPair(folders[0] / path, depths[_name(path)]) for path in found.images]


def _name(path: str) -> str:
    return os.path.splitext(path)[0]


def read_depth(path: str | os.PathLike[str], units: float | None = None) -> np.ndarray:
    """Reads a depth map.

    Args:
        path: the file.
        units: in a meter; None for :data:`UNITS` of whole numbers, and 1 of floats.

    Returns:
        (H, W) float32 in meters, 0 where it is unknown.

    Raises:
        UsageError: it cannot be read, or holds something else.
    """
    path = Path(path)
    try:
        if path.suffix.lower() == '.npy':
            values = np.load(path)
        else:
            with Image.open(path) as image:
                values = np.asarray(image)
    except (OSError, ValueError, EOFError, SyntaxError, Image.DecompressionBombError) as error:
        raise UsageError(f'the depth map {path} cannot be read ({type(error).__name__}: {error}).') from error
    if values.ndim != 2 or values.dtype.kind not in 'iuf' or values.dtype.itemsize < 2:
        what = f'{values.ndim} axes of {values.dtype}'
        raise UsageError(f'the depth map {path} holds {what}: give one channel of 16 bits or of floats.')
    if units is None:
        units = 1.0 if values.dtype.kind == 'f' else UNITS
    depth = values.astype(np.float32) / np.float32(units)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))


def read_pairs(pairs: Sequence[DepthPair], size: int, units: float | None = None, what: str = 'images') -> DepthImages:
    """Reads pairs: the shorter side becomes ``size`` pixels, of the longer one the middle stays.

    Images are resized bicubically; a pixel of the depth map is that of the nearest one.

    Args:
        pairs: the files.
        size: in pixels.
        units: see :func:`read_depth`.
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
        if abs(height * columns - width * rows) > max(height, width):  # another shape, beyond what rounding gives
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
