"""An image that is decoded later, when the needed resolution is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def largest_step(reduction: float) -> int:
    """The largest divisor of the sides that JPEG decoding supports, 1, 2, 4 or 8, not above ``reduction``."""
    return max((step for step in (2, 4, 8) if step <= reduction), default=1)


class LazyImage:
    """An image of which only the size has been read; conversion to an array decodes it in full resolution.

    Args:
        read: decodes to (H, W, 3) uint8 RGB, upright, with the sides divided by a :func:`largest_step`.
        height, width: of the whole image, upright, in pixels.

    Attributes:
        shape: (H, W, 3) of the whole image.
    """

    def __init__(self, read: Callable[[int], np.ndarray], height: int, width: int) -> None:
        self.read = read
        self.shape = (height, width, 3)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.read(1), dtype)
