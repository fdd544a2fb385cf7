"""Silhouettes and surface textures of the ten classes, as functions of plane coordinates.

A class is defined by a shape *and* a texture, so that a small crop of an object is still informative. Color, position,
size and angle are drawn per object from the same distributions for all classes. The second color is the lighter one;
all textures have about equal shares of both colors, so that the mean lightness does not reveal the class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mstkit.scenes.scene_draws import Draws, smooth_noise

Silhouette = Callable[[np.ndarray, np.ndarray], np.ndarray]
Surface = Callable[['Cells'], np.ndarray]

_HALF_ROOT_3 = 0.8660254037844386
_HALF_ROOT_2 = 0.7071067811865476


class Cells(NamedTuple):
    """Coordinates at which the texture of an object is evaluated.

    Attributes:
        x: (H, W) float32, in periods of the texture, rotated and shifted.
        y: likewise, perpendicular to ``x``.
        rim: (H, W), distance to the silhouette, positive inside, in units of the object's radius.
        sharpness: pixels per period; an edge is blended over one pixel.
        draws: source of further random numbers of this object.
    """

    x: np.ndarray
    y: np.ndarray
    rim: np.ndarray
    sharpness: float
    draws: Draws

    def step(self, value: np.ndarray) -> np.ndarray:
        """0 where ``value`` (in periods) is negative, 1 where it is positive, blended over about one pixel."""
        return np.clip(value * self.sharpness + 0.5, 0.0, 1.0)


def _fold(x: np.ndarray) -> np.ndarray:
    """A triangle wave of period 1: distance to the nearest whole number, 0 .. 0.5."""
    return np.abs(x - np.floor(x + 0.5))


def _hypot(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sqrt(x * x + y * y)


# Silhouettes: about the signed distance to the outline, positive inside, of an object of radius about 1.


def _ring(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    radius = _hypot(x, y)
    return np.minimum(0.92 - radius, radius - 0.42)


def _disc(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 0.88 - _hypot(x, y)


def _triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    slope = _HALF_ROOT_3 * np.abs(x)
    return np.minimum(0.56 - slope - 0.5 * y, 0.56 + y)


def _square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 0.74 - np.maximum(np.abs(x), np.abs(y))


def _cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = np.abs(x), np.abs(y)
    return np.minimum(0.36 - np.minimum(x, y), 0.92 - np.maximum(x, y))


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(_triangle(x, y), _triangle(x, -y))


def _heart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # A square on its corner, with a disc on each of its two upper sides.
    x, y = np.abs(x), y - 0.15
    along, across = (x + y) * _HALF_ROOT_2, (x - y) * _HALF_ROOT_2
    square = 0.52 - np.maximum(np.abs(along), np.abs(across))
    lobe = 0.52 - _hypot(along, across - 0.52)
    return np.maximum(square, lobe)


def _crescent(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.minimum(0.95 - _hypot(x, y), _hypot(x - 0.5, y) - 0.66)


def _hourglass(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    y = np.abs(y)
    return np.minimum((0.16 + 0.76 * y - np.abs(x)) * 0.8, 0.82 - y)


def _leaf(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 1.2 - _hypot(np.abs(x) + 0.5, y)


# Surfaces: 0 .. 1, how much of the second color there is.


def _stripes(cells: Cells) -> np.ndarray:
    return cells.step(_fold(cells.x) - 0.25)


def _checks(cells: Cells) -> np.ndarray:
    along, across = (cells.step((_fold(part * 0.5) - 0.25) * 2.0) for part in (cells.x, cells.y))
    return along + across - 2.0 * along * across


def _dots(cells: Cells) -> np.ndarray:
    x = cells.x + 0.5 * (np.floor(cells.y) - 2.0 * np.floor(cells.y * 0.5))
    y = cells.y + 0.5
    return cells.step(0.37 - _hypot(_fold(x), _fold(y)))


def _zigzag(cells: Cells) -> np.ndarray:
    return cells.step((_fold(cells.y + 1.6 * _fold(cells.x * 0.5)) - 0.25) * 0.75)


def _bricks(cells: Cells) -> np.ndarray:
    row = np.floor(cells.y)
    upright = _fold(cells.x * 0.5 + 0.5 * (row - 2.0 * np.floor(row * 0.5))) * 2.0
    return cells.step(np.minimum(upright, _fold(cells.y)) - 0.16)


def _grid(cells: Cells) -> np.ndarray:
    return cells.step(np.minimum(_fold(cells.x), _fold(cells.y)) - 0.15)


def _circles(cells: Cells) -> np.ndarray:
    return cells.step(_fold(_hypot(cells.x, cells.y)) - 0.25)


def _blotches(cells: Cells) -> np.ndarray:
    return cells.step((smooth_noise(cells.draws.array(16, 16), cells.y * 1.4, cells.x * 1.4) - 0.5) * 0.6)


def _teeth(cells: Cells) -> np.ndarray:
    x, y = cells.x * 0.8, cells.y * 0.8
    return cells.step((2.0 * _fold(x) - (y - np.floor(y))) * 0.6)


def _outline(cells: Cells) -> np.ndarray:
    return np.clip((cells.rim - 0.14) * 12.0, 0.0, 1.0)


class SceneClass(NamedTuple):
    """One class of objects.

    Attributes:
        name: of the silhouette.
        silhouette: (x, y) -> about the signed distance to the outline.
        surface: cells -> how much of the second color there is.
        coarseness: length of the surface's period, relative to the other classes'.
    """

    name: str
    silhouette: Silhouette
    surface: Surface
    coarseness: float


SCENE_CLASSES = (
    SceneClass('ring', _ring, _stripes, 1.0),
    SceneClass('disc', _disc, _checks, 0.8),
    SceneClass('triangle', _triangle, _dots, 0.8),
    SceneClass('square', _square, _zigzag, 0.9),
    SceneClass('cross', _cross, _teeth, 1.25),
    SceneClass('star', _star, _blotches, 1.1),
    SceneClass('heart', _heart, _bricks, 1.0),
    SceneClass('crescent', _crescent, _grid, 0.8),
    SceneClass('hourglass', _hourglass, _outline, 1.0),
    SceneClass('leaf', _leaf, _circles, 1.3),
)
CLASSES = tuple(kind.name for kind in SCENE_CLASSES)
