"""Overlays attention as a heat map on an image."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from PIL import Image


def enlarged(image: np.ndarray, size: tuple[int, int], how: Image.Resampling) -> np.ndarray:
    """Resizes an image (H, W, 3) uint8 to ``size``, which is (width, height)."""
    return np.asarray(Image.fromarray(image).resize(size, how))


def under_heat(image: np.ndarray, attention: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Draws an image in gray under its attention as a heat map, scaled to the attention's minimum and maximum.

    Args:
        image: (H, W, 3) uint8.
        attention: (h, w), of any range; nan counts as 0.
        size: (width, height) of ``image``.

    Returns:
        (H, W, 3) uint8.
    """
    attention = np.nan_to_num(attention)
    span = float(attention.max() - attention.min())
    share = (attention - attention.min()) / span if span > 0 else np.zeros_like(attention)
    smooth = Image.fromarray(share.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    colors = colormaps['inferno'](np.asarray(smooth).clip(0, 1))[..., :3] * 255
    gray = image.mean(axis=2, keepdims=True)
    return (0.4 * gray + 0.6 * colors).round().astype(np.uint8)
