"""Keypoints of objects in images, in COCO's format: one category that names its keypoints, and boxes that bear them.

A folder of COCO's layout holds ``annotations/person_keypoints_{train,val}2017.json`` and the images in ``train2017``
and ``val2017``; any other file of that format and folder of images will do. Coordinates are in pixels, from the left
upper corner of the image, for keypoints as for boxes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mstkit.datasets.coco_entries import FIELDS, check_images
from mstkit.datasets.coco_json import AnnotationFile, coco_categories, read_coco
from mstkit.datasets.image_headers import compare_sizes
from mstkit.datasets.keypoint_checks import check_keypoints, check_size_of, kind_of
from mstkit.datasets.keypoint_kind import KeypointKind
from mstkit.errors import UsageError
from mstkit.utils.home_folder import expanded

SPLITS = ('train', 'val')
SMALLEST = 1.0  # px, sides of a box
_HEADERS = 1000  # of images, whose sizes are compared at the start
_REMEDY = 'Keypoints would lie elsewhere: give the images that were annotated, or annotate these'
_OF_KEYPOINTS = AnnotationFile(
    purpose='keypoints',
    example='person_keypoints_train2017.json',
    option='a folder that has both train2017, val2017 and annotations',
    lists={
        'images': FIELDS['images'] | dict(id=int),
        'categories': FIELDS['categories'],
        'annotations': FIELDS['annotations'] | dict(id=int, image_id=int),
    },
)


class KeypointInstance(NamedTuple):
    """An object with keypoints.

    Attributes:
        image: the image's file.
        image_id: its id in the annotation file.
        size: (width, height) of the image in pixels.
        box: (x, y, width, height) in pixels.
        area: of the object, in square pixels, which scales the errors that OKS allows.
        keypoints: (K, 3) float32: x and y in pixels, and v, which is 0 for not labeled, 1 for labeled but hidden and 2
            for visible.
        id: of the annotation.
    """

    image: Path
    image_id: int
    size: tuple[int, int]
    box: tuple[float, float, float, float]
    area: float
    keypoints: np.ndarray
    id: int


class KeypointAnnotations(NamedTuple):
    """The content of an annotation file.

    Attributes:
        kind: which keypoints there are.
        instances: objects with at least one labeled keypoint and a box of at least one pixel, in the order of the file.
        left_out: how many other annotations there are, by the reason.
        content: ``images``, ``annotations`` and ``categories`` for pycocotools, all annotations of the category without
            their masks. ``num_keypoints`` is counted here, and 0 for what is left out, which COCO's evaluation ignores.
        path: the annotation file.
    """

    kind: KeypointKind
    instances: tuple[KeypointInstance, ...]
    left_out: Mapping[str, int]
    content: Mapping[str, Any]
    path: Path


def keypoint_paths(root: str | os.PathLike[str], split: str) -> tuple[Path, Path]:
    """The annotation file and the folder of images of a split (``'train'`` or ``'val'``) in COCO's layout."""
    root = expanded(root)
    return root / 'annotations' / f'person_keypoints_{split}2017.json', root / f'{split}2017'


def read_kind(annotations: str | os.PathLike[str]) -> KeypointKind:
    """Which keypoints an annotation file has, mostly without reading the rest of it.

    Raises:
        UsageError: the file is missing or broken, or no category or more than one has keypoints.
    """
    path = expanded(annotations)
    return kind_of(coco_categories(path, _OF_KEYPOINTS), path)


def read_keypoints(
    annotations: str | os.PathLike[str], images: str | os.PathLike[str], measured: bool = True
) -> KeypointAnnotations:
    """Reads and checks an annotation file and the folder of its images.

    Args:
        annotations: a JSON file in COCO's format for keypoints.
        images: the folder to which its file names are relative.
        measured: results are measured on them, so that an image that cannot be read is refused; a training replaces it.

    Raises:
        UsageError: the file is missing or broken, no category or more than one has keypoints, an annotation's keypoints
            or its box are wrong, no instance is left, or an image is missing or of another size.
    """
    path, folder = expanded(annotations), expanded(images)
    content = read_coco(path, _OF_KEYPOINTS)
    kind = kind_of(content['categories'], path)
    listed = {image['id']: image for image in content['images']}
    left_out = dict.fromkeys(
        ('of other categories', 'of crowds', 'without a labeled keypoint', f'with a box below {SMALLEST:g} px'), 0
    )
    other, crowds, unlabeled, small = left_out
    instances, evaluated = [], []
    used: dict[str, tuple[Path, tuple[int, int]]] = {}
    for entry in content['annotations']:
        if entry['category_id'] != kind.category_id:
            left_out[other] += 1
            continue
        image = listed[entry['image_id']]
        size = check_size_of(image, path)
        points = check_keypoints(entry, len(kind.names), size, path)
        reason = None
        if entry['iscrowd']:
            reason = crowds
        elif not (points[:, 2] > 0).any():
            reason = unlabeled
        elif min(entry['bbox'][2:]) < SMALLEST:
            reason = small
        if reason is not None:
            left_out[reason] += 1
        else:
            x, y, width, height = map(float, entry['bbox'])
            box = x, y, width, height
            where = folder / image['file_name']
            used[image['file_name']] = where, size
            one = KeypointInstance(where, image['id'], size, box, float(entry['area']), points, entry['id'])
            instances.append(one)
        fields = {name: entry[name] for name in ('id', 'image_id', 'category_id', 'bbox', 'area', 'iscrowd')}
        count = 0 if reason is not None else int((points[:, 2] > 0).sum())
        evaluated.append(fields | dict(keypoints=points.ravel().tolist(), num_keypoints=count))
    if not instances:
        said = ', '.join(f'{count} {what}' for what, count in left_out.items() if count) or 'there is none'
        raise UsageError(
            f'no annotation of {path} is left to learn or judge keypoints by: {said}. Give a file with objects whose '
            'keypoints have x, y and a v of 1 or 2, and whose boxes have a size.'
        )
    check_images(used, str(folder), path, 'the folder of images, train2017 or val2017 beside annotations')
    files, sizes = zip(*used.values(), strict=True)
    found = compare_sizes([str(file) for file in files], sizes, most=_HEADERS)
    found.check(str(path), _REMEDY, measured=measured, of_mmcv=False)
    of_kind = [category for category in content['categories'] if category['id'] == kind.category_id]
    kept = dict(images=content['images'], annotations=evaluated, categories=of_kind)
    return KeypointAnnotations(kind, tuple(instances), left_out, kept, path)
