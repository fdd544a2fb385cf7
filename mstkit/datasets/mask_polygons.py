"""Converts masks to polygons along pixel edges, which pycocotools rasterizes to exactly the same masks."""

from __future__ import annotations

import cv2
import numpy as np


def mask_to_polygons(mask: np.ndarray) -> list[list[int]]:
    """Outlines of a mask in COCO's form: one polygon for each part (pixels that touch at a corner are one part).

    COCO's polygons have no holes, so the outline of a hole is joined to the surrounding outline by a vertical cut of
    zero width, which is traversed in both directions. Rasterizers with the even-odd rule (pycocotools) or the
    nonzero rule are not affected by it.

    Args:
        mask: (H, W) bool.

    Returns:
        Per part ``[x1, y1, x2, y2, ...]`` in pixels, whole numbers, 0 being the left or upper edge of the first pixel.
        Their union, rasterized, is the mask; an empty mask has no polygon.
    """
    # OpenCV's contours run through pixel centers. In a mask of twice the resolution they run through quarter pixels,
    # each of which corresponds to one corner of an original pixel.
    quarters = np.ascontiguousarray(mask, np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    contours, levels = cv2.findContours(quarters, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    rings = [(contour[:, 0].astype(np.int64) + 1) // 2 for contour in contours]
    parents = [] if levels is None else levels[0, :, 3].tolist()
    polygons = []
    for number, ring in enumerate(rings):
        if parents[number] < 0:
            holes = [hole for hole, parent in zip(rings, parents, strict=True) if parent == number]
            polygons.append(_corners(_join(ring, holes)).ravel().tolist())
    return polygons


def _join(ring: np.ndarray, holes: list[np.ndarray]) -> np.ndarray:
    """One closed outline (N, 2) of a part and its holes; all outlines follow the grid in steps of one pixel."""
    # From top to bottom, each hole is joined at its topmost point to the outline above it.
    tops = [np.lexsort((hole[:, 0], hole[:, 1]))[0] for hole in holes]
    for hole, top in sorted(zip(holes, tops, strict=True), key=lambda pair: tuple(pair[0][pair[1]][::-1])):
        x, y = hole[top]
        above = np.flatnonzero((ring[:, 0] == x) & (ring[:, 1] <= y))
        at = above[ring[above, 1].argmax()]
        around = np.roll(hole, -top, axis=0)
        ring = np.concatenate([ring[: at + 1], around, around[:1], ring[at:]])
    return ring


def _corners(walk: np.ndarray) -> np.ndarray:
    """The points (N, 2) of a closed outline at which its direction changes."""
    walk = walk[(walk != np.roll(walk, 1, axis=0)).any(axis=1)]
    before, after = np.sign(walk - np.roll(walk, 1, axis=0)), np.sign(np.roll(walk, -1, axis=0) - walk)
    return walk[(before != after).any(axis=1)]
