"""Random numbers of the built-in scenes: the same on every platform and under every NumPy.

Only the raw words of Philox (a published, counter-based generator: Salmon et al., "Parallel random numbers: as easy
as 1, 2, 3", SC 2011) are taken from NumPy, since the distributions of ``Generator`` may change between its releases.
Everything else uses only operations that IEEE 754 rounds exactly (``+ - * /``, sqrt, floor): no sin or exp, no sums or
interpolation whose result depends on the library or hardware.
"""

from __future__ import annotations

import math

import numpy as np

SPLITS = ('train', 'val', 'test')


class Draws:
    """An endless stream of random numbers for (seed, split, index, purpose).

    Streams of different arguments never overlap: the arguments are the key and the upper words of Philox's counter.

    Args:
        seed: 0 .. 2**64 - 1.
        split: one of ``SPLITS``.
        index: 0 .. 2**64 - 1, usually the number of a scene.
        purpose: distinguishes several streams of one scene.
    """

    def __init__(self, seed: int, split: str, index: int, purpose: int = 0) -> None:
        key = np.array([seed, purpose], dtype=np.uint64)
        counter = np.array([0, 0, index, SPLITS.index(split)], dtype=np.uint64)
        self._bits = np.random.Philox(key=key, counter=counter)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A number in [low, high)."""
        return low + (high - low) * ((int(self._bits.random_raw()) >> 11) * 2.0**-53)

    def integer(self, low: int, high: int) -> int:
        """A whole number in [low, high)."""
        return low + int(self.uniform() * (high - low))

    def array(self, *shape: int) -> np.ndarray:
        """float32 numbers in [0, 1), of 24 bits, which float32 holds exactly."""
        words = self._bits.random_raw(math.prod(shape)) >> np.uint64(40)
        return (words.astype(np.float32) * np.float32(2.0**-24)).reshape(shape)

    def direction(self, most: float = 1.0) -> tuple[float, float]:
        """The cosine and sine of a random angle; ``most`` is the tangent of half the largest one, 1 for 90 degrees.

        Made of the rational points of the circle: a library's own sin and cos differ in the last bit.
        """
        return rotation(self.uniform(-most, most))

    def permutation(self, count: int) -> list[int]:
        """A shuffled ``range(count)`` (Fisher and Yates)."""
        order = list(range(count))
        for last in range(count - 1, 0, -1):
            other = self.integer(0, last + 1)
            order[last], order[other] = order[other], order[last]
        return order

    def color(self, luma: float, chroma: float = 0.6) -> tuple[float, float, float]:
        """A random color (r, g, b), 0..1, of about the given lightness."""
        red, green, blue = self.uniform(), self.uniform(), self.uniform()
        shift = luma - chroma * (0.299 * red + 0.587 * green + 0.114 * blue)
        return tuple(min(max(shift + chroma * part, 0.0), 1.0) for part in (red, green, blue))  # type: ignore[return-value]


def rotation(half: float) -> tuple[float, float]:
    """The cosine and sine of the angle that has ``half`` as the tangent of its half."""
    return (1.0 - half * half) / (1.0 + half * half), 2.0 * half / (1.0 + half * half)


def smooth_noise(lattice: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Value noise: a lattice of random numbers, blended smoothly in between.

    Args:
        lattice: (h, w) float32.
        y: rows, in cells of the lattice, wrapped around it; any shape.
        x: columns, likewise, broadcastable with ``y``.

    Returns:
        The values at (y, x), in the broadcast shape.
    """
    height, width = lattice.shape
    y_floor, x_floor = np.floor(y), np.floor(x)
    y_part, x_part = y - y_floor, x - x_floor
    y_part, x_part = (part * part * (3.0 - 2.0 * part) for part in (y_part, x_part))
    top, left = y_floor.astype(np.int64) % height, x_floor.astype(np.int64) % width
    bottom, right = (top + 1) % height, (left + 1) % width
    upper = lattice[top, left] * (1.0 - x_part) + lattice[top, right] * x_part
    lower = lattice[bottom, left] * (1.0 - x_part) + lattice[bottom, right] * x_part
    return upper * (1.0 - y_part) + lower * y_part
