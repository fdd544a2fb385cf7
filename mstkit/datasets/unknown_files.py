"""Describes files that Pillow cannot open as an image, and reads floating-point TIFFs with OpenCV."""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from mstkit.datasets.deep_pixels import floats_to_bytes

_KINDS = {1: 'bits, unsigned', 2: 'bits, signed', 3: 'bits, floating point', 5: 'bits, complex', 6: 'bits, complex'}
_BEGINNINGS = (
    (b'<!doctype html', 'an HTML page'),
    (b'<html', 'an HTML page'),
    (b'<?xml', 'an XML file'),
    (b'<svg', 'an SVG drawing'),
    (b'{', 'a JSON file'),
    (b'version https://git-lfs', 'a Git LFS pointer: fetch the file itself with "git lfs pull"'),
    (b'#?radiance', 'a Radiance HDR image'),
    (b'v/1\x01', 'an OpenEXR image'),
    (b'\x93numpy', 'a NumPy array'),
    (b'\x89hdf', 'an HDF5 file'),
    (b'%pdf', 'a PDF document'),
    (b'pk\x03\x04', 'a zip archive'),
    (b'\x1f\x8b', 'a gzip file'),
    (b'simple  =', 'a FITS image'),
)


def describe(data: bytes) -> str:
    """Describes a file, to follow "it is"; for a TIFF with its bands and bit depth.

    Args:
        data: at least the beginning of the file; all of it for a TIFF.
    """
    start = data[:256].lstrip(b'\xef\xbb\xbf \t\r\n').lower()
    for beginning, words in _BEGINNINGS:
        if start.startswith(beginning):
            return f'{words}, no image that Pillow knows'
    if data[128:132] == b'DICM':
        return 'a DICOM file, no image that Pillow knows'
    if data[4:8] == b'ftyp' and data[8:11] in (b'hei', b'hev', b'mif', b'msf'):
        return 'a HEIF image, which this Pillow does not know: convert it to JPEG'
    if set(data) == {0}:
        return 'nothing but zero bytes: it was not copied to the end'
    tags = _tiff_tags(data)
    if tags is None:
        return 'not in an image format that Pillow knows'
    bands, bits, sample = _samples(tags)
    return (
        f'a TIFF of {bands} band{"s" if bands != 1 else ""} of {bits} {_KINDS.get(sample, "bits")}, which cannot be '
        'read: write one band, or three for red, green and blue, of 8 or 16 bits'
    )


def float_tiff(data: bytes) -> np.ndarray | None:
    """Reads a TIFF of one or three bands of 32 or 64-bit floats, which Pillow supports only in part.

    Returns:
        (H, W, 3) uint8 RGB, scaled as in :func:`mstkit.datasets.deep_pixels.gray_to_bytes`, all bands alike; None for
        another file.

    Raises:
        ValueError: some values are not finite.
    """
    tags = _tiff_tags(data)
    if tags is None:
        return None
    bands, bits, sample = _samples(tags)
    if sample != 3 or bands not in (1, 3) or bits not in (32, 64):
        return None
    if tags.get(262) not in (1, 2) or tags.get(274, 1) != 1:  # zero is white, or the image is turned
        return None
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype.kind != 'f':
        return None
    broken = int((~np.isfinite(values)).sum())
    if broken:
        raise ValueError(f'{broken} of its {values.size} values are not finite (NaN for missing data?)')
    pixels = floats_to_bytes(values)
    return np.repeat(pixels[..., None], 3, 2) if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., ::-1])


def _tiff_tags(data: bytes) -> ImageFileDirectory_v2 | None:
    """The tags of a TIFF's first image; None for anything else."""
    if data[:4] not in (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+'):
        return None
    try:
        stream = io.BytesIO(data)
        tags = ImageFileDirectory_v2(stream.read(16 if b'+' in data[2:4] else 8))
        stream.seek(tags.next)
        tags.load(stream)
        return tags if tags.get(256) else None
    except Exception:  # Pillow raises all kinds of errors for a damaged directory
        return None


def _samples(tags: ImageFileDirectory_v2) -> tuple[int, int, int]:
    """(number of bands, bits of the deepest band, TIFF's SampleFormat)."""
    bits = tags.get(258) or (1,)
    sample = tags.get(339) or (1,)
    return int(tags.get(277) or 1), max(bits), sample[0]
