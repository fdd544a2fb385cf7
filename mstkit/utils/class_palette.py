"""Colors for any number of classes."""

from __future__ import annotations

import colorsys


def palette(count: int) -> list[list[int]]:
    """Colors for drawing classes: hues a golden section apart, in three shades by turns.

    Returns:
        ``count`` lists of red, green, blue, 0 to 255.
    """
    shades = (1.0, 0.7, 0.85)
    colors = (colorsys.hsv_to_rgb(index * 0.618034 % 1, 0.75, shades[index % 3]) for index in range(count))
    return [[round(255 * part) for part in color] for color in colors]
