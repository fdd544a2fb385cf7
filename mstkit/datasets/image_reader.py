"""Reads image files of any format and mode as upright uint8 RGB arrays, or raises :class:`UnreadableImage`."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.logging import print_log
from PIL import Image, UnidentifiedImageError

from mstkit.datasets.deep_pixels import deep_color, raw_modes
from mstkit.datasets.jpeg import decode_quickly
from mstkit.datasets.lazy_image import LazyImage, largest_step
from mstkit.datasets.pillow_pixels import orientation_of, to_rgb, turned_upright, upright_rgb
from mstkit.datasets.unknown_files import describe, float_tiff
from mstkit.errors import UsageError
from mstkit.registry import TRANSFORMS

_OF_SEVERAL_FRAMES = ('TIFF', 'GIF', 'WEBP', 'PNG', 'AVIF')  # not MPO, whose further frames are depth or stereo
_frames_said: list[str] = []
_ON_ITS_SIDE = (5, 6, 7, 8)  # EXIF orientations that swap width and height


class UnreadableImage(Exception):
    """Raised for an image file that cannot be read.

    Attributes:
        path: the file, or a description of the bytes.
        reason: why it could not be read, in a few words.
    """

    def __init__(self, path: str, reason: str = '') -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f'cannot read {self.path}: {self.reason}'


def read_image(source: str | os.PathLike[str] | bytes, name: str | None = None, reduction: int = 1) -> np.ndarray:
    """Reads an image file as upright RGB.

    Gray and palette images become RGB; transparency is composited on mid-gray; CMYK is converted
    without its color profile, with Adobe's inverted JPEGs recognized by their marker. For the scaling of channels of
    more than 8 bits see :mod:`mstkit.datasets.deep_pixels`. The EXIF orientation is applied; of a file with several
    frames the first is read, which is logged once.

    Args:
        source: a path, or the bytes of a file.
        name: name of the bytes, for messages.
        reduction: maximum factor by which the sides may be reduced; JPEG files are decoded at 1/2, 1/4 or 1/8 of their
            size within it, sides rounded up; other files are not reduced.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        UnreadableImage: the file is missing, empty, truncated, corrupt, no image, in a color space that cannot be
            converted, or larger than Pillow's limit against decompression bombs.
    """
    name = name or _name_of(source)
    with _with_reasons(name), _open_stream(source) as stream:
        image = _opened(stream)
        if isinstance(image, np.ndarray):
            return image
        if _is_plain_jpeg(image):
            step = largest_step(reduction)
            stream.seek(0)
            pixels = decode_quickly(stream.read(), image.height, image.width, step)
            if pixels is not None:
                return turned_upright(pixels, orientation_of(image))
            if step > 1:
                image.draft('RGB', (max(1, image.width // step), max(1, image.height // step)))
        depths = raw_modes(image)
        _log_frames(image, name)
        image.load()  # some formats rotate by themselves while loading and then drop the tag
        orientation = orientation_of(image)
        if any(';16' in depth for depth in depths) and image.mode in ('RGB', 'RGBA', 'LA'):
            stream.seek(0)
            image = deep_color(image, stream.read(), depths)
        return turned_upright(to_rgb(image), orientation)


def open_image(source: str | os.PathLike[str] | bytes, name: str | None = None) -> LazyImage | np.ndarray:
    """Reads only the header of a JPEG file, to decode it later at the size that is needed; decodes other files.

    Args:
        source, name: see :func:`read_image`.

    Raises:
        UnreadableImage: see :func:`read_image`; errors in the pixel data of a JPEG file are raised when decoding.
    """
    name = name or _name_of(source)
    with _with_reasons(name), _open_stream(source) as stream:
        image = _opened(stream)
        if isinstance(image, np.ndarray):
            return image
        lazy, (width, height) = _is_plain_jpeg(image), image.size
        if orientation_of(image) in _ON_ITS_SIDE:
            width, height = height, width
        stream.seek(0)
        data = stream.read()
    if not lazy:
        return read_image(data, name)
    return LazyImage(functools.partial(read_image, data, name), height, width)


def _opened(stream: BinaryIO) -> Image.Image | np.ndarray:
    """An opened Pillow image; or the pixels, (H, W, 3), of a float TIFF, which Pillow does not support.

    Raises:
        _Unknown: not an image in a supported format.
    """
    try:
        return Image.open(stream)
    except UnidentifiedImageError:
        stream.seek(0)
        data = stream.read()
    pixels = float_tiff(data)
    if pixels is None:
        raise _Unknown(describe(data))
    return pixels


def _log_frames(image: Image.Image, name: str) -> None:
    """Warns, once per process, that only the first frame of a file with several frames is read."""
    # Pillow's readers of formats with a single frame have no count.
    if _frames_said or image.format not in _OF_SEVERAL_FRAMES or (count := getattr(image, 'n_frames', 1)) == 1:
        return
    _frames_said.append(name)
    print_log(
        f'{name} holds {count} frames: of such files the first frame is read and the others are not '
        '(said once); write each frame into a file of its own to use them all.',
        logger='current',
        level=logging.WARNING,
    )


def _is_plain_jpeg(image: Image.Image) -> bool:
    """Whether it is a JPEG of one or three channels; others (CMYK) are decoded by Pillow."""
    return image.format == 'JPEG' and image.mode in ('RGB', 'L')


def _name_of(source: str | os.PathLike[str] | bytes) -> str:
    return f'<{len(source)} bytes>' if isinstance(source, bytes) else os.fspath(source)


@contextlib.contextmanager
def _open_stream(source: str | os.PathLike[str] | bytes) -> Iterator[BinaryIO]:
    with io.BytesIO(source) if isinstance(source, bytes) else open(source, 'rb') as stream:
        if not stream.read(1):
            raise _EmptyFile
        stream.seek(0)
        yield stream


class _EmptyFile(Exception):
    """The file has no bytes."""


class _Unknown(Exception):
    """The file is no supported image; the message says what it is."""


@contextlib.contextmanager
def _with_reasons(name: str) -> Iterator[None]:
    """Converts all exceptions while an image is read to UnreadableImage with a reason."""
    try:
        with warnings.catch_warnings():
            # Pillow warns of unusual metadata and of images near its size limit, which are readable nevertheless.
            warnings.simplefilter('ignore')
            yield
    except UnreadableImage:
        raise
    except _EmptyFile:
        raise UnreadableImage(name, 'the file is empty') from None
    except FileNotFoundError:
        raise UnreadableImage(name, 'there is no such file') from None
    except _Unknown as error:
        raise UnreadableImage(name, f'it is {error}') from None
    except Image.DecompressionBombError as error:
        reason = f'{error} To read it nevertheless, raise PIL.Image.MAX_IMAGE_PIXELS'
        raise UnreadableImage(name, reason) from None
    except Exception as error:  # damaged files surface as any kind of exception from Pillow's decoders
        raise UnreadableImage(name, f'{error or type(error).__name__}') from error


@TRANSFORMS.register_module()
class LoadRGB(BaseTransform):
    """Reads ``img_path`` into ``img``, (H, W, 3) uint8 RGB.

    Data sets with images in memory (CIFAR) provide ``img`` instead, an array of uint8, RGB or gray, or an image of
    Pillow's of any mode; gray becomes RGB. Data sets with the bytes of image files (shards) provide ``img_bytes``, and
    ``img_path`` as a name for messages.

    Args:
        scaled: decode a JPEG file (:class:`LazyImage`) only after ``MultiCrop`` has drawn its crops, at 1/2, 1/4 or 1/8
            of its size if the sides of the smallest crop then still have twice the pixels of its view. Boxes are
            rounded to the reduced pixels, so that a view may be shifted by a quarter of a pixel: compared to the whole
            image, the median PSNR is 40 dB and the lowest 31 dB. Photographs of 500 pixels are never reduced for views
            of 224 and 96 pixels; those of 2,000 pixels take two thirds of the time. Off by default.

    Raises:
        UnreadableImage: the file cannot be read; mstkit's data sets then replace the sample.
        UsageError: none of these keys is present, or ``img`` is not such an array.
    """

    def __init__(self, scaled: bool = False) -> None:
        self.scaled = scaled
        self._read = open_image if scaled else read_image

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Adds ``img``, ``ori_shape`` and ``img_shape``, both (H, W)."""
        image: np.ndarray | LazyImage
        if results.get('img') is not None:
            image = self._checked(results['img'])
        elif results.get('img_bytes') is not None:
            image = self._read(results.pop('img_bytes'), results.get('img_path'))
        elif results.get('img_path'):
            image = self._read(results['img_path'])
        else:
            raise UsageError(
                f"LoadRGB needs 'img_path' or 'img' from the data set, but got only {sorted(results)}: "
                'use a data set that provides one of them.'
            )
        results['img'] = image
        results['ori_shape'] = results['img_shape'] = image.shape[:2]
        return results

    @staticmethod
    def _checked(image: Any) -> np.ndarray:
        if isinstance(image, Image.Image):
            return upright_rgb(image)
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            kind = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
            raise UsageError(f"the data set's 'img' is {kind}: give a numpy array of uint8 in 0..255.")
        shape = image.shape
        if image.ndim == 2:
            image = image[..., None]
        if image.ndim != 3 or image.shape[2] not in (1, 3) or 0 in image.shape:
            raise UsageError(f"the data set's 'img' has shape {shape}: give (H, W, 3) RGB, (H, W, 1) or (H, W) gray.")
        return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image

    def __repr__(self) -> str:
        return f'{type(self).__name__}(scaled={self.scaled})'
