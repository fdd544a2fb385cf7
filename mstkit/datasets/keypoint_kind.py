"""Which keypoints are marked: their names, which are joined, which a mirror image swaps, and how exact they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

# Of COCO's keypoints: the spread of repeated annotations, in square roots of an object's area
# (Ronchi and Perona, arXiv 1707.05388; https://cocodataset.org/#keypoints-eval).
COCO_SIGMAS = {
    'nose': 0.026,
    'left_eye': 0.025,
    'right_eye': 0.025,
    'left_ear': 0.035,
    'right_ear': 0.035,
    'left_shoulder': 0.079,
    'right_shoulder': 0.079,
    'left_elbow': 0.072,
    'right_elbow': 0.072,
    'left_wrist': 0.062,
    'right_wrist': 0.062,
    'left_hip': 0.107,
    'right_hip': 0.107,
    'left_knee': 0.087,
    'right_knee': 0.087,
    'left_ankle': 0.089,
    'right_ankle': 0.089,
}
OTHER_SIGMA = 0.05  # of keypoints that are not COCO's: an error of a tenth of √area counts exp(−1/2)
_SIDES = {'left': 'right', 'right': 'left'}


class KeypointKind(NamedTuple):
    """The category whose keypoints are marked.

    Attributes:
        category_id: in the annotation file.
        name: of the category.
        names: of its K keypoints.
        skeleton: pairs of keypoints that are joined when drawn, counted from 0.
        flip_pairs: pairs that a mirror image swaps, counted from 0.
        sigmas: K numbers for OKS, see :func:`sigmas_of`.
    """

    category_id: int
    name: str
    names: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...]
    flip_pairs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]


def flip_pairs_of(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Pairs of names that differ in ``left`` and ``right`` only, such as ``left_hip`` and ``right_hip``.

    A keypoint without such a partner is its own mirror image.
    """
    places = {name.lower(): number for number, name in enumerate(names)}
    pairs = []
    for name, number in places.items():
        mirrored = re.sub(r'(?<![a-z])(left|right)(?![a-z])', lambda found: _SIDES[found[0]], name)
        if number < places.get(mirrored, -1):
            pairs.append((number, places[mirrored]))
    return tuple(pairs)


def sigmas_of(names: Sequence[str]) -> tuple[float, ...]:
    """COCO's published numbers if all names are among COCO's, else :data:`OTHER_SIGMA` for every keypoint."""
    if all(name in COCO_SIGMAS for name in names):
        return tuple(COCO_SIGMAS[name] for name in names)
    return (OTHER_SIGMA,) * len(names)
