"""Masks as polygons along the edges of their pixels, from which pycocotools makes the very same masks again."""

from __future__ import annotations

import cv2
import numpy as np


def mask_to_polygons(mask: np.ndarray) -> list[list[int]]:
    """Outlines of a mask in COCO's form: one polygon for each part (pixels that touch at a corner are one part).

    COCO's polygons have no holes, so the outline of a hole is joined to the one around it by a cut that is walked down
    and up again. The cuts are vertical and of no width: rasterizers that fill by parity, as pycocotools does, or by
    winding number see nothing of them.

    Args:
        mask: (H, W) bool.

    Returns:
        Per part ``[x1, y1, x2, y2, ...]`` in pixels, whole numbers, 0 being the left or upper edge of the first pixel.
        Their union, rasterized, is the mask; an empty mask has no polygon.
    """
    # OpenCV walks through the middles of pixels. Of a mask of twice the size, where each quarter of a pixel is one of
    # its own, it visits the quarters along the outline, and each quarter has one corner of its pixel.
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
    """One closed walk (N, 2) around a part and the holes in it; all walks go along the grid in steps of one pixel."""
    # From above, each hole is joined at its highest point to what lies above it, which then is part of the walk.
    tops = [np.lexsort((hole[:, 0], hole[:, 1]))[0] for hole in holes]
    for hole, top in sorted(zip(holes, tops, strict=True), key=lambda pair: tuple(pair[0][pair[1]][::-1])):
        x, y = hole[top]
        above = np.flatnonzero((ring[:, 0] == x) & (ring[:, 1] <= y))
        at = above[ring[above, 1].argmax()]
        around = np.roll(hole, -top, axis=0)
        ring = np.concatenate([ring[: at + 1], around, around[:1], ring[at:]])
    return ring


def _corners(walk: np.ndarray) -> np.ndarray:
    """The points (N, 2) of a closed walk at which it changes its direction."""
    walk = walk[(walk != np.roll(walk, 1, axis=0)).any(axis=1)]
    before, after = np.sign(walk - np.roll(walk, 1, axis=0)), np.sign(np.roll(walk, -1, axis=0) - walk)
    return walk[(before != after).any(axis=1)]
