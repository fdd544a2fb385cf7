"""Built-in scenes with figures, whose joints are known: dolls in random poses among the objects of the other scenes."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mstkit.scenes.figure_bodies import JOINTS, Body, Part, Point
from mstkit.scenes.scene_canvas import FINE, Canvas, box_around
from mstkit.scenes.scene_classes import CLASSES
from mstkit.scenes.scene_draws import Draws
from mstkit.scenes.scene_images import MAX_OBJECTS, SIZES, check_scene
from mstkit.scenes.scene_objects import Pose
from mstkit.utils.checks import check_count

_PURPOSE = 4  # of the random numbers, beside those of the other scenes
_HEIGHT = (0.75, 1.0)  # of a single figure that stands upright, in sides of the image
_SMALLER = (1.0, 0.72, 0.6)  # of two, three and more
_SEEN, _INSIDE = 0.65, 0.85  # shares of a figure that are hidden by no other one, and inside of the image
_PARTS = 30  # numbers of a figure in the canvas's ``owner``, more than it has parts
_OTHER = 250  # number of the objects


class Figure(NamedTuple):
    """A figure in an image.

    Attributes:
        keypoints: (K, 3) float32, for each of ``JOINTS`` x and y in pixels from the left upper corner, and COCO's v: 2
            where it is seen, 1 where something is before it, 0 (with x and y) where it is outside of the image.
        box: (x, y, width, height) in pixels, around all of the figure that is in the image, hidden or not.
        area: the square pixels of the same.
        from_behind: whether it turns its back to us.
    """

    keypoints: np.ndarray
    box: tuple[float, float, float, float]
    area: float
    from_behind: bool


class FigureScene(NamedTuple):
    """An image, (H, W, 3) uint8, RGB, and its figures."""

    image: np.ndarray
    figures: tuple[Figure, ...]


def render_figure_scene(seed: int, split: str, index: int, size: int = 128, figures: int = 3) -> FigureScene:
    """Renders one scene.

    Args:
        seed: of the data set; 0 .. 2**64 - 1.
        split: ``'train'``, ``'val'`` or ``'test'``; no two splits share a scene.
        index: number of the scene in its split, from 0.
        size: side of the image in pixels.
        figures: how many there are at most.

    Returns:
        The scene, the same bytes for the same arguments on every machine.

    Raises:
        UsageError: an argument is out of range.
    """
    check_scene(seed, split, index)
    check_count('the size of a scene', size, *SIZES)
    check_count('the number of figures of a scene', figures, 1, MAX_OBJECTS)
    draws = Draws(seed, split, index, purpose=figures << 8 | _PURPOSE)
    canvas = Canvas(size)
    canvas.paint_surroundings(draws)
    for _ in range(draws.integer(0, 4)):
        canvas.paint_object(Pose(draws.integer(0, len(CLASSES)), draws, draws.uniform(0.15, 0.35)), _OTHER)
    bodies = _place(draws.integer(1, figures + 1), draws)
    whole = [_paint(canvas, body, 1 + number * _PARTS, draws) for number, body in enumerate(bodies)]
    for _ in range(draws.integer(0, 3)):
        canvas.paint_object(Pose(draws.integer(0, len(CLASSES)), draws, draws.uniform(0.1, 0.2)), _OTHER)
    for _ in range(draws.integer(0, 3)):
        canvas.paint_clutter(draws, small=True)
    canvas.light(draws)
    found = tuple(
        _figure(canvas, body, inside, 1 + number * _PARTS)
        for number, (body, inside) in enumerate(zip(bodies, whole, strict=True))
    )
    return FigureScene(canvas.image(), found)


def _place(count: int, draws: Draws) -> list[Body]:
    """Bodies, the last one in front; one that hides too much of another, or lies outside, is drawn again, smaller.

    The decision is taken on a grid of its own, so that it does not depend on the size of the image.
    """
    scale = _SMALLER[min(count, len(_SMALLER)) - 1]
    probe = ((np.arange(96) + 0.5) / 48 - 0.5).astype(np.float32)  # also of what is outside
    x, y = probe[None, :], probe[:, None]
    framed = ((x > 0) & (x < 1)) & ((y > 0) & (y < 1))
    placed: list[Body] = []
    areas: list[np.ndarray] = []
    for _ in range(count):
        best, best_share, best_area = None, -1.0, framed
        for attempt in range(24):
            height = draws.uniform(*_HEIGHT) * scale * 0.97**attempt
            body = Body(draws, height, (draws.uniform(0.15, 0.85), draws.uniform(0.25, 0.7)))
            area = body.covers(x, y)
            inside = np.count_nonzero(area & framed) / max(np.count_nonzero(area), 1)
            # Of the figures behind, this one among those that hide them.
            seen = min((_share_of(one, [*areas[number + 1 :], area]) for number, one in enumerate(areas)), default=1.0)
            share = min(inside / _INSIDE, seen / _SEEN)
            if share > best_share:
                best, best_share, best_area = body, share, area
            if share >= 1.0:
                break
        assert best is not None
        placed.append(best)
        areas.append(best_area)
    return placed


def _share_of(area: np.ndarray, before: list[np.ndarray]) -> float:
    hidden = np.logical_or.reduce(before)
    return np.count_nonzero(area & ~hidden) / max(np.count_nonzero(area), 1)


def _paint(canvas: Canvas, body: Body, first: int, draws: Draws) -> np.ndarray:
    """Paints the parts, the n-th with the number ``first`` + n; returns where the body is, (side, side) bool."""
    whole = np.zeros_like(canvas.owner, bool)
    for number, part in enumerate(body.parts):
        window = _window(canvas, part)
        x, y = canvas.axis[None, window[1]], canvas.axis[window[0], None]
        rim = part.inside(x, y)
        alpha = np.clip(rim * canvas.side + 0.5, 0.0, 1.0)
        stroke = part.strokes[0]
        along, across = _axes(stroke.first, stroke.second)
        x, y = x - stroke.first[0], y - stroke.first[1]
        color = part.coat.color(x * along[0] + y * along[1], x * across[0] + y * across[1], rim, canvas.side, draws)
        # Round: darker to the outline, by which a part is told from one of the same color behind it.
        round_ = 0.62 + 0.38 * np.clip(rim * (1.6 / stroke.radii[0]), 0.0, 1.0)
        canvas.blend(window, color * round_, alpha)
        canvas.owner[window][alpha >= 0.5] = first + number
        whole[window] |= alpha >= 0.5
    return whole


def _window(canvas: Canvas, part: Part) -> tuple[slice, slice]:
    """The rows and columns in which a part is."""
    ends = [(*end, max(stroke.radii)) for stroke in part.strokes for end in (stroke.first, stroke.second)]
    rows, columns = (
        slice(
            max(math.floor((min(end[axis] - end[2] for end in ends) - 0.01) * canvas.side), 0),
            max(math.ceil((max(end[axis] + end[2] for end in ends) + 0.01) * canvas.side), 0),
        )
        for axis in (1, 0)
    )
    return rows, columns


def _axes(first: Point, second: Point) -> tuple[Point, Point]:
    """Unit vectors along a stroke and across it."""
    x, y = second[0] - first[0], second[1] - first[1]
    length = math.sqrt(x * x + y * y)
    along = (x / length, y / length) if length > 1e-6 else (1.0, 0.0)
    return along, (-along[1], along[0])


def _figure(canvas: Canvas, body: Body, whole: np.ndarray, first: int) -> Figure:
    keypoints = np.zeros((len(JOINTS), 3), np.float32)
    for row, name in enumerate(JOINTS):
        x, y = body.joints[name]
        if not (0.0 <= x < 1.0 and 0.0 <= y < 1.0):
            continue
        part = int(canvas.owner[int(y * canvas.side), int(x * canvas.side)]) - first
        seen = 0 <= part < len(body.parts) and name in body.parts[part].joints
        size = canvas.side // FINE
        keypoints[row] = x * size, y * size, 2 if seen else 1
    return Figure(keypoints, box_around(whole), np.count_nonzero(whole) / FINE**2, body.facing[0] < 0)
