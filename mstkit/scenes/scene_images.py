"""Small generated scenes: textured objects of ten classes on clutter, with their masks.

A scene is a function of (seed, split, index) alone and needs no file. It is described in units of its side, so the
same scene can be rendered at any size. Classes differ in shape and texture, see :mod:`mstkit.scenes.scene_classes`;
colors, lighting, positions, sizes, angles, background and clutter have the same distributions for all of them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mstkit.errors import UsageError, nearest
from mstkit.scenes.scene_classes import CLASSES
from mstkit.scenes.scene_draws import SPLITS, Draws, smooth_noise
from mstkit.scenes.scene_objects import Pose, place_objects
from mstkit.utils.checks import check_count

__all__ = ['CLASSES', 'SIZES', 'SPLITS', 'Instance', 'Scene', 'render_scene', 'scene_label']

SIZES = (16, 512)
MAX_OBJECTS = 8
_FINE = 2  # subpixels per pixel and axis


class Instance(NamedTuple):
    """One object of a scene.

    Attributes:
        class_id: index into ``CLASSES``.
        mask: (H, W) bool, the visible part of the object.
    """

    class_id: int
    mask: np.ndarray

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(x1, y1, x2, y2) around the mask, in pixels, x2 and y2 one past the last."""
        rows, columns = np.flatnonzero(self.mask.any(axis=1)), np.flatnonzero(self.mask.any(axis=0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


class Scene(NamedTuple):
    """An image and what is on it.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        label: the class of the main object, ``instances[0]``.
        instances: the objects, main one first; their masks are disjoint.
    """

    image: np.ndarray
    label: int
    instances: tuple[Instance, ...]

    def label_map(self) -> np.ndarray:
        """(H, W) uint8: 0 for background, class_id + 1 for an object."""
        labels = np.zeros(self.image.shape[:2], np.uint8)
        for instance in self.instances:
            labels[instance.mask] = instance.class_id + 1
        return labels


def scene_label(seed: int, split: str, index: int) -> int:
    """The class of a scene's main object: every ten scenes in a row hold all ten classes, in a shuffled order."""
    _check(seed, split, index)
    block, place = divmod(index, len(CLASSES))
    return Draws(seed, split, block, purpose=1).permutation(len(CLASSES))[place]


def render_scene(seed: int, split: str, index: int, size: int = 64, objects: int = 1) -> Scene:
    """Renders one scene.

    Args:
        seed: of the data set; 0 .. 2**64 - 1.
        split: one of ``SPLITS``; no two splits share a scene.
        index: number of the scene in its split, from 0.
        size: side of the image in pixels.
        objects: number of objects; the more, the smaller they are. The main one is always in front of the others.

    Returns:
        The scene, the same bytes for the same arguments on every machine.

    Raises:
        UsageError: an argument is out of range.
    """
    label = scene_label(seed, split, index)
    check_count('the size of a scene', size, *SIZES)
    check_count('the number of objects of a scene', objects, 1, MAX_OBJECTS)
    draws = Draws(seed, split, index, purpose=objects << 8)
    canvas = _Canvas(size * _FINE)
    canvas.paint_background(draws)
    for _ in range(draws.integer(3, 7)):
        canvas.paint_clutter(draws, small=False)
    class_ids = [label, *(draws.integer(0, len(CLASSES)) for _ in range(objects - 1))]
    placed = place_objects(class_ids, draws)
    for number, pose in reversed(list(enumerate(placed, start=1))):
        canvas.paint_object(pose, number)
    for _ in range(draws.integer(0, 2)):
        canvas.paint_clutter(draws, small=True)
    canvas.light(draws)
    taken = np.zeros((size, size), bool)
    instances = []
    for number, pose in enumerate(placed, start=1):
        mask = (_shrink((canvas.owner == number).astype(np.float32)) >= 0.5) & ~taken
        taken |= mask
        instances.append(Instance(pose.class_id, mask))
    image = np.floor(np.clip(_shrink(canvas.pixels), 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    return Scene(np.ascontiguousarray(image.transpose(1, 2, 0)), label, tuple(instances))


def _check(seed: int, split: str, index: int) -> None:
    if split not in SPLITS:
        raise UsageError(f'The scenes have no split {split!r}, only {", ".join(SPLITS)}.{nearest(str(split), SPLITS)}')
    check_count('the seed of a scene', seed, 0, 2**64 - 1)
    check_count('the index of a scene', index, 0, 2**64 - 1)


def _shrink(fine: np.ndarray) -> np.ndarray:
    """(..., S, S) -> (..., S / 2, S / 2): the mean of each pixel's subpixels, added in a fixed order."""
    rows = fine[..., 0::2, :] + fine[..., 1::2, :]
    return (rows[..., 0::2] + rows[..., 1::2]) * 0.25


class _Canvas:
    """The image while it is painted, at ``side`` subpixels.

    Attributes:
        pixels: (3, side, side) float32, 0 .. 1.
        owner: (side, side) uint8, 1 + the number of the object that is seen there, 0 for none.
    """

    def __init__(self, side: int) -> None:
        self.side = side
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
        alpha = np.clip(rim * (pose.radius * self.side) + 0.5, 0.0, 1.0)
        first, second = (_column(color) for color in pose.colors)
        color = first + (second - first) * pose.surface(u, v, rim, self.side)
        self.blend(window, color * (1.0 + pose.shade[0] * u + pose.shade[1] * v), alpha)
        self.owner[window][alpha >= 0.5] = number

    def light(self, draws: Draws) -> None:
        """Brighter on one side than on the other."""
        slope, (x, y) = draws.uniform(0.0, 0.2), draws.direction()
        gain = draws.uniform(0.9, 1.1)
        self.pixels *= gain + slope * x * (self.axis[None, :] - 0.5) + slope * y * (self.axis[:, None] - 0.5)


def _column(color: tuple[float, float, float]) -> np.ndarray:
    return np.array(color, np.float32).reshape(3, 1, 1)
