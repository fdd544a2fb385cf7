"""Built-in scenes in space: objects of one size stand on a floor before a wall, and every pixel has a depth.

What tells the depth is what tells it in a photograph: farther objects are smaller, stand higher in the image, are
hidden by nearer ones, and are paler.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mstkit.scenes.scene_canvas import FINE, Canvas
from mstkit.scenes.scene_classes import CLASSES
from mstkit.scenes.scene_draws import Draws
from mstkit.scenes.scene_images import MAX_OBJECTS, SIZES, check_scene
from mstkit.scenes.scene_objects import Pose
from mstkit.utils.checks import check_count

NEAREST, WALL = 2.0, 10.0  # depth, in sizes of an object
_HORIZON = (0.2, 0.5)  # from the upper edge
_EXTENT = 1.6  # of an object at depth 1, in sides of the image
_PALE, _AIR = 0.45, 0.62  # how much of the air's gray there is at the wall, and that gray
_PURPOSE = 2  # of the random numbers, beside those of the other scenes


class DepthScene(NamedTuple):
    """An image and its depth.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        depth: (H, W) float32, ``NEAREST`` to ``WALL``, in sizes of an object.
    """

    image: np.ndarray
    depth: np.ndarray


def render_depth_scene(seed: int, split: str, index: int, size: int = 64, objects: int = 5) -> DepthScene:
    """Renders one scene.

    Args:
        seed: of the data set; 0 .. 2**64 - 1.
        split: ``'train'``, ``'val'`` or ``'test'``; no two splits share a scene.
        index: number of the scene in its split, from 0.
        size: side of the image in pixels.
        objects: number of objects.

    Returns:
        The scene, the same bytes for the same arguments on every machine.

    Raises:
        UsageError: an argument is out of range.
    """
    check_scene(seed, split, index)
    check_count('the size of a scene', size, *SIZES)
    check_count('the number of objects of a scene', objects, 1, MAX_OBJECTS)
    draws = Draws(seed, split, index, purpose=objects << 8 | _PURPOSE)
    canvas = Canvas(size)
    canvas.paint_surroundings(draws)
    horizon = draws.uniform(*_HORIZON)
    # Equally likely in the inverse of the depth, and so in the image.
    depths = sorted((1.0 / draws.uniform(1.2 / WALL, 0.8 / NEAREST) for _ in range(objects)), reverse=True)
    for number, depth in enumerate(depths, start=1):
        pose = Pose(draws.integer(0, len(CLASSES)), draws, _EXTENT / depth * draws.uniform(0.9, 1.1))
        pose.stand_on(horizon + (1.0 - horizon) * NEAREST / depth)
        canvas.paint_object(pose, number)
    far = np.array([0.0, *depths], np.float32)[canvas.owner]
    far = np.where(canvas.owner == 0, _floor(canvas.axis, horizon)[:, None], far).astype(np.float32)
    canvas.pixels += (np.float32(_AIR) - canvas.pixels) * ((far - NEAREST) * np.float32(_PALE / (WALL - NEAREST)))
    canvas.light(draws)
    return DepthScene(canvas.image(), np.ascontiguousarray(far[FINE - 1 :: FINE, FINE - 1 :: FINE]))


def _floor(rows: np.ndarray, horizon: float) -> np.ndarray:
    """Depth of the floor, or above it of the wall, by the height in the image (0 above, 1 below)."""
    eye = np.float32((1.0 - horizon) * NEAREST)
    below = np.maximum(rows - np.float32(horizon), eye / np.float32(WALL))
    return np.minimum(eye / below, np.float32(WALL))
