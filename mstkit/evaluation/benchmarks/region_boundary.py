"""J and F of an object in a video: the agreement of its region and its boundary with the annotation.

Perazzi et al., CVPR 2016, section 4 ("A benchmark dataset and evaluation methodology for video object segmentation"),
as computed in the DAVIS-2017 challenge (Pont-Tuset et al., arXiv 1704.00675).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy  # loads its submodules on first use

TOLERANCE = 0.008  # of the image's diagonal, within which boundaries match
_GOOD = 0.5  # recall counts frames above it
_QUARTERS = 4  # decay is the difference between the first and the last quarter


class Statistics(NamedTuple):
    """One measure of one object over the frames of its video.

    Attributes:
        mean: over frames.
        recall: the share of frames above 0.5.
        decay: the mean over the first quarter of the frames minus that over the last.
    """

    mean: float
    recall: float
    decay: float


def region_similarity(predicted: np.ndarray, annotated: np.ndarray) -> float:
    """J: the intersection of two regions over their union; 1 if both are empty.

    Args:
        predicted: (H, W) bool.
        annotated: (H, W) bool.
    """
    union = np.count_nonzero(predicted | annotated)
    return np.count_nonzero(predicted & annotated) / union if union else 1.0


def boundary_accuracy(predicted: np.ndarray, annotated: np.ndarray) -> float:
    """F: the harmonic mean of precision and recall of the boundary.

    A boundary pixel matches where the other boundary, dilated by a disk, covers it; the radius of the disk is 0.008 of
    the image's diagonal, rounded up to whole pixels. F is 0 if one region has no boundary, and 1 if neither has.

    Args:
        predicted: (H, W) bool.
        annotated: (H, W) bool.
    """
    radius = math.ceil(TOLERANCE * math.hypot(*predicted.shape))
    found, true = (np.argwhere(boundary(mask)) for mask in (predicted, annotated))
    if len(found) == 0 or len(true) == 0:
        return float(len(found) == len(true))
    precision, recall = _covered(found, true, radius), _covered(true, found, radius)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary(mask: np.ndarray) -> np.ndarray:
    """Finds the pixels whose right, lower or lower right neighbor has another value.

    In the last column only the lower neighbor counts, in the last row only the right one.

    Args:
        mask: (H, W) bool.

    Returns:
        (H, W) bool, a line of one pixel.
    """
    beyond = np.pad(mask, ((0, 1), (0, 1)), mode='edge')
    return (mask ^ beyond[:-1, 1:]) | (mask ^ beyond[1:, :-1]) | (mask ^ beyond[1:, 1:])


def over_frames(values: Sequence[float]) -> Statistics:
    """Sums up a measure over the frames of a video, at least one.

    The quarters share the frames at their borders, as those of the challenge do.
    """
    array = np.asarray(values, dtype=np.float64)
    ends = np.floor(np.linspace(1, len(array), _QUARTERS + 1) + 0.5).astype(int) - 1
    first, last = array[ends[0] : ends[1] + 1], array[ends[-2] : ends[-1] + 1]
    return Statistics(float(array.mean()), float((array > _GOOD).mean()), float(first.mean() - last.mean()))


def _covered(points: np.ndarray, others: np.ndarray, radius: int) -> float:
    """The share of pixels, (n, 2), that lie within a distance of the nearest other one."""
    # Squared distances are integers, so adding 0.5 only avoids rounding errors at the radius.
    distances, _ = scipy.spatial.cKDTree(others).query(points, distance_upper_bound=math.sqrt(radius**2 + 0.5))
    return float(np.isfinite(distances).mean())
