"""Checks what COCO's format says about keypoints, in the category and in every annotation."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mstkit.datasets.keypoint_kind import KeypointKind, flip_pairs_of, sigmas_of
from mstkit.errors import UsageError
from mstkit.utils.few_of_many import first_few

_FORM = 'x, y, v for each keypoint, one after the other'


def kind_of(categories: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]) -> KeypointKind:
    """The one category with keypoints.

    Args:
        categories: the entries of the annotation file.
        path: the file, for messages.

    Raises:
        UsageError: none has keypoints, several have, or their names or their skeleton are wrong.
    """
    marked = [category for category in categories if category.get('keypoints')]
    if not marked:
        known = first_few([repr(category['name']) for category in categories])
        raise UsageError(
            f'no category of {path} has keypoints (its categories are {known}): give an annotation file for keypoints, '
            'such as person_keypoints_train2017.json, whose category names them.'
        )
    if len(marked) > 1:
        several = first_few([repr(category['name']) for category in marked])
        raise UsageError(
            f'{len(marked)} categories of {path} have keypoints ({several}): give a file for each of them, in which '
            'the others have none.'
        )
    category = marked[0]
    where = f'{path}: the category {category["name"]!r}'
    names = category['keypoints']
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise UsageError(f'{where} has the keypoints {names!r}: give a list of their names.')
    twice = [name for name, count in Counter(map(str.lower, names)).items() if count > 1]
    if twice:
        raise UsageError(f'{where} has two keypoints called {twice[0]!r}: give each a name of its own.')
    skeleton = category.get('skeleton') or []
    if not isinstance(skeleton, list) or not all(_is_bone(bone, len(names)) for bone in skeleton):
        raise UsageError(
            f'{where} has the skeleton {first_few(skeleton) if isinstance(skeleton, list) else repr(skeleton)}: give '
            f'pairs of keypoints, counted from 1 to {len(names)}.'
        )
    joined = tuple((first - 1, second - 1) for first, second in skeleton)
    pairs, sigmas = flip_pairs_of(names), sigmas_of(names)
    return KeypointKind(category['id'], category['name'], tuple(names), joined, pairs, sigmas)


def _is_bone(bone: Any, count: int) -> bool:
    return (
        isinstance(bone, list)
        and len(bone) == 2
        and all(isinstance(end, int) and not isinstance(end, bool) and 1 <= end <= count for end in bone)
    )


def check_size_of(image: Mapping[str, Any], path: str | os.PathLike[str]) -> tuple[int, int]:
    """(width, height) of an image in pixels, as the file says.

    Raises:
        UsageError: they are not whole numbers from 1 on.
    """
    sides = image['width'], image['height']
    if not all(1 <= side < 1e9 and side == int(side) for side in sides):
        raise UsageError(
            f'{path}: image {image["id"]} ({image["file_name"]}) has the width and height {sides}: give its pixels.'
        )
    return int(sides[0]), int(sides[1])


def check_keypoints(
    entry: Mapping[str, Any], count: int, size: tuple[int, int], path: str | os.PathLike[str]
) -> np.ndarray:
    """The keypoints of an annotation, if they and its box may be right.

    Args:
        entry: the annotation.
        count: of keypoints in its category, K.
        size: (width, height) of its image in pixels.
        path: the file, for messages.

    Returns:
        (K, 3) float32; x and y of keypoints that are not labeled are 0. Crowds may have none, which are not labeled.

    Raises:
        UsageError: they are not K times x, y, v, or are far outside of the image; a box is, or an area is not above 0.
    """
    where = f'{path}: annotation {entry["id"]}'
    values = entry.get('keypoints')
    if values is None and entry['iscrowd']:
        return np.zeros((count, 3), np.float32)
    if not isinstance(values, list) or len(values) != 3 * count:
        said = f'{len(values)} numbers' if isinstance(values, list) else f'{values!r}'
        raise UsageError(
            f'{where} has as keypoints {said}, but its category has {count}: give {3 * count} numbers, {_FORM}.'
        )
    odd = [value for value in values if isinstance(value, bool) or not isinstance(value, int | float)]
    if odd:
        raise UsageError(f'{where} has {odd[0]!r} among its keypoints: give numbers, {_FORM}.')
    points = np.array([_float(value) for value in values]).reshape(count, 3)
    seen = points[:, 2] != 0
    points[~seen & np.isfinite(points[:, 2]), :2] = 0
    if not np.isfinite(points).all():
        number = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
        raise UsageError(
            f'{where} has the keypoint {number + 1} at {_written(values, number)}: give finite numbers, or 0, 0, 0 '
            'for one that is not labeled.'
        )
    wrong = np.flatnonzero(~np.isin(points[:, 2], (0, 1, 2)))
    if len(wrong):
        number = int(wrong[0])
        raise UsageError(
            f'{where} has the keypoint {number + 1} as {_written(values, number)}: its v has to be 0 (not labeled), 1 '
            '(labeled but hidden) or 2 (visible).'
        )
    # Farther outside than the image is long: of another image, of another scale, or in another order.
    far = seen & ((points[:, :2] < np.negative(size)) | (points[:, :2] > np.multiply(size, 2))).any(axis=1)
    if far.any():
        number = int(np.flatnonzero(far)[0])
        raise UsageError(
            f'{where} has the keypoint {number + 1} at {_written(values, number, 2)}, far outside of its image of '
            f'{size[0]}x{size[1]} px: give x and y in pixels of that image.'
        )
    if not entry['iscrowd'] and seen.any():
        _check_box(entry, size, where)
    return points.astype(np.float32)


def _check_box(entry: Mapping[str, Any], size: tuple[int, int], where: str) -> None:
    x, y, width, height = entry['bbox']
    if x < -size[0] or y < -size[1] or x + width > 2 * size[0] or y + height > 2 * size[1]:
        raise UsageError(
            f'{where} has the box {entry["bbox"]}, far outside of its image of {size[0]}x{size[1]} px: give x, y, '
            'width and height in pixels of that image.'
        )
    if not (math.isfinite(entry['area']) and entry['area'] > 0):
        raise UsageError(
            f'{where} has the area {entry["area"]}, by which OKS divides: give that of the object, or of its box, in '
            'square pixels.'
        )


def _float(value: float) -> float:
    return float(value) if abs(value) < 1e300 else math.inf  # a whole number may be too large for a float


def _written(values: Sequence[Any], number: int, count: int = 3) -> str:
    return '(' + ', '.join(map(str, values[3 * number : 3 * number + count])) + ')'
