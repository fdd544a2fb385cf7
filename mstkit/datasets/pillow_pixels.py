"""Upright uint8 RGB arrays of Pillow's images, whatever their mode."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops

from mstkit.datasets.deep_pixels import gray_to_bytes

# Background of transparent pixels. Mid-gray keeps both black and white drawings visible, and is close to the mean used
# for normalization, so that a transparent border is near zero in the network's input.
NEUTRAL_BACKGROUND = (128, 128, 128)

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright_rgb(image: Image.Image) -> np.ndarray:
    """The pixels of an image in memory, turned as its EXIF orientation says, (H, W, 3) uint8."""
    return turned_upright(to_rgb(image), orientation_of(image))


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation; 1 (upright) without one or if the EXIF block is damaged."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG)
    except Exception:
        return 1
    return orientation if orientation in _UPRIGHT else 1


def turned_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Applies the EXIF orientation to (H, W, 3) uint8."""
    turn = _UPRIGHT.get(orientation)
    return pixels if turn is None else np.array(Image.fromarray(pixels).transpose(turn))


def to_rgb(image: Image.Image) -> np.ndarray:
    """Converts a loaded Pillow image of any mode to (H, W, 3) uint8."""
    mode = image.mode
    if mode.startswith('I;16') or mode in ('I', 'F'):
        return np.repeat(gray_to_bytes(image)[..., None], 3, axis=2)
    if mode == 'CMYK' and image.format in ('JPEG', 'MPO') and 'adobe' not in image.info:
        # Pillow assumes that every CMYK JPEG is Adobe's, with inverted inks; without Adobe's marker it is not.
        image = ImageChops.invert(image)
    if 'transparency' in image.info or mode in ('RGBA', 'LA', 'PA', 'La', 'RGBa'):
        if mode in ('La', 'RGBa'):  # premultiplied alpha
            image = image.convert({'La': 'LA', 'RGBa': 'RGBA'}[mode])
        layer = image.convert('RGBA')
        background = Image.new('RGBA', layer.size, (*NEUTRAL_BACKGROUND, 255))
        image = Image.alpha_composite(background, layer)
    return np.array(image if image.mode == 'RGB' else image.convert('RGB'))
