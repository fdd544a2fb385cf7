"""Poses of the objects in a built-in scene: position, size, rotation, and texture coordinates."""

from __future__ import annotations

import math

import numpy as np

from mstkit.scenes.scene_classes import SCENE_CLASSES, Cells
from mstkit.scenes.scene_draws import Draws

_EXTENT = (0.86, 1.00)  # of a single object, in sides: the geometric mean of its box's width and height
_TURN = 0.04  # tangent of half the largest angle, 5 degrees, by which an object is turned


class Pose:
    """One object before it is painted: where it is, how it is turned, and what its surface looks like."""

    def __init__(self, class_id: int, draws: Draws, scale: float) -> None:
        self.class_id = class_id
        self.turn, self.surface_turn = draws.direction(_TURN), draws.direction(_TURN)
        self.flip = 1.0 if draws.uniform() < 0.5 else -1.0
        self.x = self.y = 0.0
        self.radii = 1.0, 1.0
        # The box is drawn and the silhouette fitted into it, so that no class can be told by the size, the form or the
        # place of its box.
        left, top, right, bottom = self._box()
        self._bottom = bottom
        extent, aspect = draws.uniform(*_EXTENT) * scale, draws.uniform(0.85, 1.15)
        self.radii = extent * aspect / (right - left), extent / (aspect * (bottom - top))
        self.radius = math.sqrt(self.radii[0] * self.radii[1])
        self.x = self._center(left * self.radii[0], right * self.radii[0], draws)
        self.y = self._center(top * self.radii[1], bottom * self.radii[1], draws)
        # The surface follows the object's size only in part.
        coarseness = SCENE_CLASSES[class_id].coarseness
        self.period = (0.05 * math.sqrt(scale) + self.radius * draws.uniform(0.15, 0.22)) * coarseness
        self.phase = draws.uniform(), draws.uniform()
        dark = draws.uniform(0.0, 0.4)
        self.colors = draws.color(dark), draws.color(dark + draws.uniform(0.35, 0.6))
        shade, (shade_x, shade_y) = draws.uniform(0.0, 0.3), draws.direction()
        self.shade = shade * shade_x, shade * shade_y
        self.draws = draws

    def _box(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) of the silhouette, in radii around (x, y), to 1/24 of a radius."""
        probe = ((np.arange(72) + 0.5) / 24 - 1.5).astype(np.float32)
        inside = self.rim(*self.plane(probe[None, :], probe[:, None])) > 0
        columns, rows = np.flatnonzero(inside.any(axis=0)), np.flatnonzero(inside.any(axis=1))
        ends = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        left, top, right, bottom = (int(end) / 24 - 1.5 for end in ends)
        return left, top, right, bottom

    @staticmethod
    def _center(low: float, high: float, draws: Draws) -> float:
        """Where (x, y) goes along one axis, so that the box lies anywhere but less than a tenth outside the frame."""
        middle, margin = (low + high) * 0.5, min((high - low) * 0.4, 0.5)
        return draws.uniform(margin, 1.0 - margin) - middle

    def stand_on(self, y: float) -> None:
        """Moves the object up or down, so that its lowest point is at ``y``."""
        self.y = y - self._bottom * self.radii[1]

    def grow(self, factor: float) -> None:
        """Makes the object and the pattern on it larger or smaller."""
        self.radii = self.radii[0] * factor, self.radii[1] * factor
        self.radius, self.period = self.radius * factor, self.period * factor

    @property
    def reach(self) -> float:
        """Nothing of the object is farther than this from (x, y)."""
        return 1.5 * max(self.radii)

    def plane(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """From the scene's coordinates to the object's, in which its radius is about 1."""
        x, y = (x - self.x) * (1.0 / self.radii[0]), (y - self.y) * (1.0 / self.radii[1])
        cosine, sine = self.turn
        return (x * cosine + y * sine) * self.flip, y * cosine - x * sine

    def rim(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """About the signed distance to the outline, in radii, positive inside."""
        return SCENE_CLASSES[self.class_id].silhouette(u, v)

    def surface(self, u: np.ndarray, v: np.ndarray, rim: np.ndarray, side: int) -> np.ndarray:
        """0 .. 1, how much of the second color there is."""
        cosine, sine = self.surface_turn
        scale = self.radius / self.period
        x = (u * cosine + v * sine) * scale + self.phase[0]
        y = (v * cosine - u * sine) * scale + self.phase[1]
        return SCENE_CLASSES[self.class_id].surface(Cells(x, y, rim, self.period * side, self.draws))


def place_objects(class_ids: list[int], draws: Draws) -> list[Pose]:
    """Draws the objects' poses; one that would hide behind the others is drawn again, a little smaller each time.

    The decision is taken on a grid of its own, so that it does not depend on the size of the image.
    """
    scale = 1.0 if len(class_ids) == 1 else 1.1 / math.sqrt(len(class_ids))
    probe = ((np.arange(64) + 0.5) / 64).astype(np.float32)
    occupied: np.ndarray = np.zeros((64, 64), bool)
    placed = []
    for class_id in class_ids:
        best, best_seen, best_area = None, -1.0, occupied
        for attempt in range(24):
            pose = Pose(class_id, draws, scale * 0.97**attempt)
            area = pose.rim(*pose.plane(probe[None, :], probe[:, None])) > 0
            seen = np.count_nonzero(area & ~occupied) / max(np.count_nonzero(area), 1)
            if seen > best_seen:
                best, best_seen, best_area = pose, seen, area
            if seen >= 0.7:
                break
        assert best is not None
        placed.append(best)
        occupied = occupied | best_area
    return placed
