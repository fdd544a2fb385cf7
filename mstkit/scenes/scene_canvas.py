"""The image of a built-in scene while it is painted."""

from __future__ import annotations

import math

import numpy as np

from mstkit.scenes.scene_draws import Draws, smooth_noise
from mstkit.scenes.scene_objects import Pose

FINE = 2  # subpixels per pixel and axis


def shrink(fine: np.ndarray) -> np.ndarray:
    """(..., S, S) -> (..., S / 2, S / 2): the mean of each pixel's subpixels, added in a fixed order."""
    rows = fine[..., 0::2, :] + fine[..., 1::2, :]
    return (rows[..., 0::2] + rows[..., 1::2]) * 0.25


def box_around(inside: np.ndarray) -> tuple[float, float, float, float]:
    """(left, top, width, height) in pixels, to a subpixel, around what is True in (side, side) bool."""
    columns, rows = np.flatnonzero(inside.any(axis=0)), np.flatnonzero(inside.any(axis=1))
    left, top = int(columns[0]) / FINE, int(rows[0]) / FINE
    return left, top, (int(columns[-1]) + 1) / FINE - left, (int(rows[-1]) + 1) / FINE - top


class Canvas:
    """An image at ``FINE`` subpixels per pixel and axis.

    Args:
        size: side of the image in pixels.

    Attributes:
        side: in subpixels.
        pixels: (3, side, side) float32, 0 .. 1.
        owner: (side, side) uint8, 1 + the number of the object that is seen there, 0 for none.
    """

    def __init__(self, size: int) -> None:
        self.side = side = size * FINE
        self.pixels = np.zeros((3, side, side), np.float32)
        self.owner = np.zeros((side, side), np.uint8)
        self.axis = ((np.arange(side) + 0.5) / side).astype(np.float32)

    def window(self, x: float, y: float, reach: float) -> tuple[slice, slice]:
        """The rows and columns within ``reach`` of (x, y), so that small things cost little."""
        rows, columns = (
            slice(max(math.floor((at - reach) * self.side), 0), max(math.ceil((at + reach) * self.side), 0))
            for at in (y, x)
        )
        return rows, columns

    def blend(self, window: tuple[slice, slice], color: np.ndarray, alpha: np.ndarray) -> None:
        """Paints (3, h, w) or (3, 1, 1) of color over a window; ``alpha`` (h, w) says how much of it."""
        part = self.pixels[:, window[0], window[1]]
        part += (color - part) * alpha

    def paint_background(self, draws: Draws) -> None:
        """Two colors, mixed by smooth noise."""
        lattice = draws.array(16, 16)
        shift_y, shift_x = draws.uniform(0, 16), draws.uniform(0, 16)
        coarse = draws.uniform(1.5, 3.5)
        x, y = self.axis[None, :], self.axis[:, None]
        noise = smooth_noise(lattice, y * coarse + shift_y, x * coarse + shift_x) * 0.7
        noise = noise + smooth_noise(lattice, y * (coarse * 2.5) + shift_x, x * (coarse * 2.5) + shift_y) * 0.3
        first, second = (_column(draws.color(draws.uniform(0.2, 0.75), 0.3)) for _ in range(2))
        self.pixels += first + (second - first) * noise

    def paint_surroundings(self, draws: Draws) -> None:
        """What is behind the objects: the background, and on it a few things that belong to no class."""
        self.paint_background(draws)
        for _ in range(draws.integer(3, 7)):
            self.paint_clutter(draws, small=False)

    def paint_clutter(self, draws: Draws, small: bool) -> None:
        """A blob or a stroke of one color, which belongs to no class."""
        x, y = draws.uniform(), draws.uniform()
        cosine, sine = draws.direction()
        stroke = draws.uniform() < 0.4
        length = draws.uniform(0.08, 0.3) if stroke else draws.uniform(0.03, 0.1)
        width = draws.uniform(0.008, 0.02) if stroke else draws.uniform(0.03, 0.1)
        if small:
            length *= 0.7
            width *= 0.7
        color, strength = draws.color(draws.uniform(0.2, 0.75), 0.4), draws.uniform(0.4, 0.9)
        window = self.window(x, y, max(length, width) * 1.1 + 0.02)
        across, down = self.axis[None, window[1]] - x, self.axis[window[0], None] - y
        along, over = across * cosine + down * sine, down * cosine - across * sine
        # An ellipse, long and thin for a stroke; the distance is exact on its short axis, which is the one that shows.
        distance = (1.0 - np.sqrt(along * along * (1.0 / length**2) + over * over * (1.0 / width**2))) * width
        alpha = np.clip(distance * self.side + 0.5, 0.0, 1.0)
        self.blend(window, _column(color), alpha * strength)
        if small:
            self.owner[window][alpha * strength > 0.5] = 0

    def paint_object(self, pose: Pose, number: int) -> None:
        """An object; ``number`` is its mark in ``owner``."""
        window = self.window(pose.x, pose.y, pose.reach)
        u, v = pose.plane(self.axis[None, window[1]], self.axis[window[0], None])
        rim = pose.rim(u, v)
        alpha = self._alpha(pose, rim)
        first, second = (_column(color) for color in pose.colors)
        color = first + (second - first) * pose.surface(u, v, rim, self.side)
        self.blend(window, color * (1.0 + pose.shade[0] * u + pose.shade[1] * v), alpha)
        self.owner[window][alpha >= 0.5] = number

    def silhouette(self, pose: Pose) -> np.ndarray:
        """(side, side) bool: where an object is, whether something is before it or not."""
        window = self.window(pose.x, pose.y, pose.reach)
        found = np.zeros_like(self.owner, bool)
        rim = pose.rim(*pose.plane(self.axis[None, window[1]], self.axis[window[0], None]))
        found[window] = self._alpha(pose, rim) >= 0.5
        return found

    def _alpha(self, pose: Pose, rim: np.ndarray) -> np.ndarray:
        """How much of a subpixel an object covers, 0 .. 1."""
        return np.clip(rim * (pose.radius * self.side) + 0.5, 0.0, 1.0)

    def light(self, draws: Draws) -> None:
        """Brighter on one side than on the other."""
        slope, (x, y) = draws.uniform(0.0, 0.2), draws.direction()
        gain = draws.uniform(0.9, 1.1)
        self.pixels *= gain + slope * x * (self.axis[None, :] - 0.5) + slope * y * (self.axis[:, None] - 0.5)

    def image(self) -> np.ndarray:
        """(H, W, 3) uint8, RGB."""
        pixels = np.floor(np.clip(shrink(self.pixels), 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
        return np.ascontiguousarray(pixels.transpose(1, 2, 0))


def _column(color: tuple[float, float, float]) -> np.ndarray:
    return np.array(color, np.float32).reshape(3, 1, 1)
