"""Files of images and of their depth: pairs in a folder, in KITTI's layout, or by a list.

A folder holds ``images/SPLIT`` and ``annotations/SPLIT``, in which an image and its depth map have the same name but
for the suffix: the layout of mmseg's NYU-Depth v2. KITTI's is that of its archives, with the depth in
``SPLIT/DRIVE/proj_depth/groundtruth/image_0N`` and the images in ``DATE/DRIVE/image_0N/data``. Depth maps are PNG or
TIFF files of 16 bits, TIFF files of floats, or NumPy's ``.npy``; 0 and what is not finite is unknown.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mstkit.datasets.folder_scan import scan_folder
from mstkit.errors import UsageError
from mstkit.utils.home_folder import expanded

DEPTH_EXTENSIONS = ('.png', '.tif', '.tiff', '.npy')
UNITS = 1000.0  # in a meter, of files of whole numbers
KITTI_UNITS = 256.0
_ANNOTATED = ('.', 'data_depth_annotated')  # below KITTI's folder: where its archive of depth may have been unpacked
_RAW = ('.', 'raw', 'raw_data', 'kitti_raw')  # likewise, that of the images


class DepthPair(NamedTuple):
    """The files of an image and of its depth."""

    image: Path
    depth: Path


class DepthFiles(NamedTuple):
    """The pairs of a split.

    Attributes:
        pairs: in the order of their names.
        units: of the depth files in a meter, as the layout has them; None for those of :func:`read_depth`.
    """

    pairs: list[DepthPair]
    units: float | None = None


def find_pairs(root: str | os.PathLike[str], split: str) -> DepthFiles:
    """The pairs of a split of a folder, in either layout.

    Raises:
        UsageError: a folder is missing or empty, or an image has no depth map.
    """
    folder = expanded(root)
    if not (folder / 'images').is_dir():
        for below in _ANNOTATED:
            if (drives := folder / below / split).is_dir() and any(drives.glob('*/proj_depth')):
                return DepthFiles(_kitti_pairs(folder, drives), KITTI_UNITS)
    return DepthFiles(pairs_of_folders(folder / 'images' / split, folder / 'annotations' / split))


def pairs_of_folders(images: Path, depths: Path) -> list[DepthPair]:
    """The pairs of two folders by their names without suffix, in any depth of sub-folders.

    Raises:
        UsageError: a folder is missing or empty, or an image has no depth map.
    """
    for folder in (images, depths):
        if not folder.is_dir():
            raise UsageError(
                f'there is no folder {folder}: depth is read from images/SPLIT and annotations/SPLIT of a folder, here '
                f'{images} and {depths}, or from KITTI as its archives are unpacked.'
            )
    found = scan_folder(str(images))
    if not found.images:
        raise UsageError(f'{images} holds no images{found.ignored_in_words()}.')
    by_name = {_name(path): depths / path for path in scan_folder(str(depths), DEPTH_EXTENSIONS).images}
    missing = [path for path in found.images if _name(path) not in by_name]
    if missing:
        raise UsageError(
            f'{len(missing)} of {len(found.images)} images in {images} have no depth map in {depths}, the '
            f'first: {_name(missing[0])} (with {", ".join(DEPTH_EXTENSIONS)}).'
        )
    return [DepthPair(images / path, by_name[_name(path)]) for path in found.images]


def pairs_of_list(
    listed: str | os.PathLike[str], images: str | os.PathLike[str], depths: str | os.PathLike[str]
) -> tuple[list[DepthPair], int]:
    """The pairs that a list names, as the lists of Eigen's split of KITTI and of NYU-Depth v2 do.

    Args:
        listed: a text file; each line has the path of an image and that of its depth map, and then what is not read
            (the focal length). ``None`` for the depth map means that there is none.
        images: the folder to which the paths of images are relative; they may begin with a slash.
        depths: likewise, of depth maps.

    Returns:
        The pairs, in the order of the list, and the number of lines without a depth map, which are left out.

    Raises:
        UsageError: the list cannot be read, or names a file that is not there.
    """
    try:
        lines = [line.split() for line in expanded(listed).read_text(encoding='utf-8-sig').splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f'the list {listed} cannot be read ({error}).') from error
    pairs = []
    for number, words in enumerate(lines, start=1):
        if len(words) < 2:
            raise UsageError(f'line {number} of {listed} is {" ".join(words)!r}: give the image and its depth map.')
        if words[1] == 'None':
            continue
        pair = DepthPair(*(Path(root, word.lstrip('/')) for root, word in zip((images, depths), words, strict=False)))
        for path in pair:
            if not path.is_file():
                raise UsageError(f'line {number} of {listed} names {path}, which is not there.')
        pairs.append(pair)
    if not pairs:
        raise UsageError(f'the list {listed} names no image with a depth map.')
    return pairs, len(lines) - len(pairs)


def _kitti_pairs(root: Path, drives: Path) -> list[DepthPair]:
    """Every depth map below the drives with its image, of which the first and last of a drive have no depth."""
    pairs = []
    for path in scan_folder(str(drives), ('.png',)).images:
        drive, *between, camera, name = Path(path).parts
        if between != ['proj_depth', 'groundtruth']:
            continue  # what else there is below a drive, such as velodyne_raw
        date = drive[: len('2011_09_26')]
        places = [root / raw / date / drive / camera / 'data' for raw in _RAW]
        files = [place / Path(name).with_suffix(end) for place in places for end in ('.png', '.jpg')]
        image = next((file for file in files if file.is_file()), None)
        if image is None:
            raise UsageError(
                f'the depth map {drives / path} has no image {places[0] / name}: unpack the raw data of KITTI there.'
            )
        pairs.append(DepthPair(image, drives / path))
    if not pairs:
        raise UsageError(f'{drives} holds no DRIVE/proj_depth/groundtruth/image_0N/*.png.')
    return pairs


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


def same_view(image: Sequence[int], depth: Sequence[int]) -> bool:
    """Whether two shapes (H, W) may be of one view: of the same ratio, but for what rounding gives."""
    (height, width), (rows, columns) = image, depth
    return abs(height * columns - width * rows) <= max(height, width)
