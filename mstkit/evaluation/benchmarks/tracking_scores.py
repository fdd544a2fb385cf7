"""Scores of a followed box: success and precision as in OTB, average overlap and success rates as in GOT-10k."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from mstkit.evaluation.benchmarks.tracking_files import TrackedVideo

THRESHOLDS = np.linspace(0, 1, 21)  # of the overlap, in OTB's success plot
NEAR = 20  # px between the middles of two boxes, of OTB's precision
NEAR_IN_SIZES = 0.2  # the same in widths and heights of the true box, as in LaSOT
NAMES = ('success', 'precision', 'norm_precision', 'ao', 'sr50', 'sr75')


class TrackingScores(NamedTuple):
    """How well a box was followed through a video.

    Attributes:
        values: in percent, by ``NAMES``, see :func:`score_boxes`.
        overlaps: of the frames after the first that are scored, with what lies in the image, 0 to 1.
        frames: how many frames are scored, the first one among them.
        hidden: how many are not, because there is nothing of the target.
    """

    values: dict[str, float]
    overlaps: np.ndarray
    frames: int
    hidden: int


def score_boxes(boxes: np.ndarray, video: TrackedVideo) -> TrackingScores:
    """Compares boxes with the true ones, in the frames in which there is something of the target.

    ``success`` is the area under the success plot: the mean, over the thresholds 0, 0.05 .. 1, of the share of frames
    with a larger overlap. ``precision`` is the share of frames in which the middles are at most 20 px apart,
    ``norm_precision`` that of a fifth of the true box, its width across and its height down. These three count the
    first frame, whose box is given, as OTB does. ``ao`` is the mean overlap, ``sr50`` and ``sr75`` the shares of frames
    with an overlap above 0.5 and 0.75, by GOT-10k's toolkit: without the first frame, and of what lies in the image.

    Args:
        boxes: (T, 4), one of each frame.
        video: with a true box of each frame.
    """
    seen = video.visible
    found, true = boxes[seen], video.boxes[seen]
    success = (overlaps(found, true)[:, None] > THRESHOLDS).mean()
    apart = (found[:, :2] + found[:, 2:] / 2) - (true[:, :2] + true[:, 2:] / 2)
    near, near_in_sizes = (np.sqrt((one**2).sum(axis=1)) for one in (apart, apart / true[:, 2:]))
    within = overlaps(*(inside(one[1:][seen[1:]], video.size) for one in (boxes, video.boxes)))
    shares = (success, (near <= NEAR).mean(), (near_in_sizes <= NEAR_IN_SIZES).mean(), *_of_overlaps(within))
    values = {name: 100 * float(share) for name, share in zip(NAMES, shares, strict=True)}
    return TrackingScores(values, within, int(seen.sum()), int((~seen).sum()))


def overall(scores: Collection[TrackingScores]) -> dict[str, float]:
    """Scores of several videos, in percent by ``NAMES``.

    OTB's three are means over the videos; GOT-10k's three are taken over the frames of all of them, as in its toolkit,
    so that a longer video counts more.
    """
    frames = _of_overlaps(np.concatenate([one.overlaps for one in scores]))
    means = [float(np.mean([one.values[name] for one in scores])) for name in NAMES[:3]]
    return dict(zip(NAMES, (*means, *(100 * float(share) for share in frames)), strict=True))


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes, (N, 4) and (N, 4): (N,); 0 where both are empty."""
    low = np.maximum(first[:, :2], second[:, :2])
    high = np.minimum(first[:, :2] + first[:, 2:], second[:, :2] + second[:, 2:])
    common = (high - low).clip(min=0).prod(axis=1)
    whole = first[:, 2:].prod(axis=1) + second[:, 2:].prod(axis=1) - common
    # Not above 1, which rounding could give.
    return np.divide(common, whole, out=np.zeros(len(first)), where=whole > 0).clip(max=1)


def inside(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The part of each box that lies in an image of (width, height), without width or height where nothing does."""
    low, high = (corner.clip(0, size) for corner in (boxes[:, :2], boxes[:, :2] + boxes[:, 2:]))
    return np.concatenate([low, high - low], axis=1)


def _of_overlaps(found: np.ndarray) -> tuple[np.floating, np.floating, np.floating]:
    return found.mean(), (found > 0.5).mean(), (found > 0.75).mean()
