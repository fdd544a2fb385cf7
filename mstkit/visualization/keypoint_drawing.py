"""Draws keypoints of instances, and the lines of their skeleton, on an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmengine.structures import InstanceData
from PIL import Image, ImageDraw

from mstkit.utils.class_palette import palette

_RADIUS = 4  # px
_LINE = 2  # px
_BONE = (255, 255, 255)
_EDGE = (0, 0, 0)


def draw_keypoints(
    image: np.ndarray, instances: InstanceData, scale: float, skeleton: Sequence[tuple[int, int]]
) -> np.ndarray:
    """Draws every keypoint in a color of its own, and white lines between those that the skeleton joins.

    Args:
        image: (H, W, 3) uint8 RGB.
        instances: ``keypoints``, (N, K, 2) in pixels of the image before it was enlarged, in which its left upper
            corner is (0, 0); with ``keypoints_visible``, (N, K), those that are 0 are not drawn.
        scale: by which the image was enlarged.
        skeleton: pairs of keypoints, counted from 0.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    points = scale * np.asarray(instances.keypoints, np.float64) - 0.5  # Pillow counts from the centers of pixels
    shown = np.ones(points.shape[:2], bool)
    if 'keypoints_visible' in instances:
        shown = np.asarray(instances.keypoints_visible) > 0
    colors = [tuple(color) for color in palette(points.shape[1])]
    canvas = Image.fromarray(image)
    pen = ImageDraw.Draw(canvas)
    for places, seen in zip(points, shown, strict=True):
        for first, second in skeleton:
            if seen[first] and seen[second]:
                pen.line([*places[first], *places[second]], fill=_BONE, width=_LINE)
        for number in np.flatnonzero(seen):
            corners = [*(places[number] - _RADIUS), *(places[number] + _RADIUS)]
            pen.ellipse(corners, fill=colors[number], outline=_EDGE)
    return np.asarray(canvas)
