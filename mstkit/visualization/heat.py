"""A picture with its attention laid over it as heat."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from PIL import Image


def enlarged(picture: np.ndarray, size: tuple[int, int], how: Image.Resampling) -> np.ndarray:
    """Resizes a picture (H, W, 3) uint8 to ``size``, which is (width, height)."""
    return np.asarray(Image.fromarray(picture).resize(size, how))


def under_heat(picture: np.ndarray, attention: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Draws a picture in grey under its attention in colour, stretched to that attention's own range.

    Args:
        picture: (H, W, 3) uint8.
        attention: (h, w), of any range; what is not a number counts as 0.
        size: (width, height) of ``picture``.

    Returns:
        (H, W, 3) uint8.
    """
    attention = np.nan_to_num(attention)
    span = float(attention.max() - attention.min())
    share = (attention - attention.min()) / span if span > 0 else np.zeros_like(attention)
    smooth = Image.fromarray(share.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    colours = colormaps['inferno'](np.asarray(smooth).clip(0, 1))[..., :3] * 255
    grey = picture.mean(axis=2, keepdims=True)
    return (0.4 * grey + 0.6 * colours).round().astype(np.uint8)
