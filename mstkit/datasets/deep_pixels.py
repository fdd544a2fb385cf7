"""Converts pixels of more than 8 bits (cameras, microscopes, X-ray detectors, satellites) to uint8.

The scaling must depend neither on other images nor on a single bright pixel, so that all images of one instrument are
scaled alike. Files of 16 bits often contain 10, 12 or 14 significant bits without saying so. Therefore white is the
largest value of the smallest common bit depth that covers the image's values and the maximum that the file declares.
"""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin

DEPTHS = (8, 10, 12, 14, 16)
FULL = 65535
_BITS_PER_SAMPLE, _PHOTOMETRIC, _LARGEST, _LARGEST_OF_ANY_KIND = 258, 262, 281, 341  # TIFF 6.0, sections 8 and 19
_WHITE_IS_ZERO = 0
_MIGHT_BE_LESS = 64  # a high byte of at least this means that all 16 bits are used


def gray_to_bytes(image: Image.Image) -> np.ndarray:
    """Converts a gray image of Pillow's modes ``I;16``, ``I`` and ``F`` to uint8.

    Whole numbers from 0 to 65535 are scaled so that :func:`white_of` becomes 255, floats in [0, 1] by 255; floats in
    [0, 255] are kept. Other values are stretched between their minimum and maximum. A TIFF with photometric
    interpretation 0 (zero is white) is inverted.

    Returns:
        (H, W) uint8.

    Raises:
        ValueError: some values are not finite.
    """
    values = np.asarray(image)
    broken = 0 if values.dtype.kind != 'f' else int((~np.isfinite(values)).sum())
    if broken:
        raise ValueError(f'{broken} of its {values.size} values are not finite (NaN for missing data?)')
    gray = floats_to_bytes(values) if values.dtype.kind == 'f' else _whole_to_bytes(values, image)
    return 255 - gray if _tags(image).get(_PHOTOMETRIC) == _WHITE_IS_ZERO else gray


def floats_to_bytes(values: np.ndarray) -> np.ndarray:
    """Converts finite floats of any shape to uint8; see :func:`gray_to_bytes`."""
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 255:
        low, high = 0.0, 1.0 if high <= 1 else 255.0
    return _stretched(values, low, high)


def _whole_to_bytes(values: np.ndarray, image: Image.Image) -> np.ndarray:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > FULL:
        return _stretched(values, low, high)
    return _divided(values, white_of(image, high))


def white_of(image: Image.Image, largest: int) -> int:
    """The value that is white in a file of 16 bits per channel.

    PNG does not say how many of the 16 bits are used, TIFF only by the tags BitsPerSample, MaxSampleValue and
    SMaxSampleValue; the decoders of the other formats (PGM, JPEG 2000) scale to 65535 themselves.

    Args:
        image: the opened file.
        largest: its largest value, 65535 at most.

    Returns:
        255, 1023, 4095, 16383 or 65535.
    """
    if image.format not in ('TIFF', 'PNG'):
        return FULL
    tags = _tags(image)
    for tag in (_LARGEST, _LARGEST_OF_ANY_KIND):
        declared = tags.get(tag)
        declared = max(declared, default=0) if isinstance(declared, tuple) else declared
        if isinstance(declared, int | float) and declared <= FULL:
            largest = max(largest, int(declared))
    bits = min(tags.get(_BITS_PER_SAMPLE) or (16,))
    if bits < 16:  # packed samples, of 12 bits for instance
        largest = max(largest, 2**bits - 1)
    return next(2**depth - 1 for depth in DEPTHS if largest < 2**depth)


def deep_color(image: Image.Image, data: bytes, depths: tuple[str, ...]) -> Image.Image:
    """Decodes a color image of 16 bits per channel again, if Pillow's truncation to the high bytes made it too dark.

    Args:
        image: as Pillow loaded it, ``RGB``, ``RGBA`` or ``LA``.
        data: the file.
        depths: the raw modes of its pixels, from :func:`raw_modes` before loading.

    Returns:
        The image itself if its channels have 8 bits or use all 16 bits; otherwise a new one, RGB or RGBA.

    Raises:
        ValueError: the file cannot be decoded in full depth.
    """
    if not any(';16' in depth for depth in depths) or image.format not in ('TIFF', 'PNG'):
        return image
    high = np.asarray(image)
    colors = high[..., : 1 if image.mode == 'LA' else 3]
    if colors.max() >= _MIGHT_BE_LESS:
        return image
    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    values = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if values is None or values.dtype != np.uint16 or values.shape[:2] != high.shape[:2] or values.ndim != 3:
        raise ValueError('its 16-bit channels cannot be read in full depth: write it with 8 bits')
    colors, alpha = values[..., 2::-1], values[..., 3:]
    parts = [_divided(colors, white_of(image, int(colors.max())))]
    if alpha.size:
        parts.append(_divided(alpha, white_of(image, int(alpha.max()))))
    deep = Image.fromarray(np.concatenate(parts, axis=2))
    deep.format = image.format
    return deep


def raw_modes(image: Image.Image) -> tuple[str, ...]:
    """Pillow's raw modes of the pixels of an opened image; available only before it is loaded."""
    found = []
    for tile in image.tile if isinstance(image, ImageFile.ImageFile) else ():
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        found += [word for word in arguments if isinstance(word, str)]
    return tuple(found)


def _divided(values: np.ndarray, white: int) -> np.ndarray:
    """Scales whole numbers from 0..``white`` to 0..255, rounded, as uint8."""
    return ((values.astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8)


def _stretched(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.rint((values.astype(np.float64) - low) * (255.0 / max(high - low, 1e-12))).astype(np.uint8)


def _tags(image: Image.Image) -> dict:
    return dict(image.tag_v2) if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
