"""Checks classes and masks of an annotation file in COCO's format, before mmdet would fail on them in a run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from mstkit.downstream.run_lengths import fault_of
from mstkit.errors import UsageError, nearest
from mstkit.utils.few_of_many import first_few


def check_classes(classes: Sequence[str], known: Sequence[str], path: str | os.PathLike[str]) -> None:
    """Refuses classes that an annotation file does not have, or that are not in the order of its category ids.

    mmdet's evaluation assumes that a network's outputs have that order.

    Args:
        classes: the classes of the data set.
        known: the names of the file's categories, in the order of their ids.
        path: the file, for messages.

    Raises:
        UsageError: naming both lists.
    """
    absent = [name for name in classes if name not in set(known)]
    if absent:
        raise UsageError(
            f'{path} has no category {first_few([repr(name) for name in absent])}: its categories are '
            f'{first_few(known, 5)}, and the classes asked for are {first_few(classes, 5)}.'
            f'{nearest(absent[0], known)} The classes asked for are metainfo.classes, or those of the training '
            'data where that is not given: correct it, or add to the file the categories that it lacks.'
        )
    ordered = [name for name in known if name in set(classes)]
    if list(classes) != ordered:
        raise UsageError(
            f'metainfo.classes ({first_few(classes, 5)}) are in another order than in {path}, or repeated: write them '
            f'in the order of the category ids ({first_few(ordered, 5)}), in which mmdet evaluates them.'
        )


def check_masks(content: Mapping[str, Any], path: str | os.PathLike[str]) -> int:
    """Refuses annotations without valid masks, which are needed to train or evaluate masks.

    Args:
        content: result of :func:`read_coco`.
        path: the file, for messages.

    Returns:
        The number of objects that have only polygons of fewer than three points, which mmdet ignores.

    Raises:
        UsageError: with the number of annotations and the first of them.
    """
    annotations = content['annotations']
    without = [entry['id'] for entry in annotations if not entry.get('segmentation')]
    if without:
        raise UsageError(
            f'{len(without)} of the {len(annotations)} annotations in {path} have no segmentation, the first is '
            f'annotation {without[0]}: masks cannot be trained on boxes. Complete the file, or use a detector without '
            'a mask head and LoadAnnotations without with_mask.'
        )
    sizes = {image['id']: [image['height'], image['width']] for image in content['images']}
    masks = [(entry['id'], entry['segmentation'], sizes[entry['image_id']]) for entry in annotations]
    for number, mask, size in masks:
        if isinstance(mask, dict):
            if mask.get('size') != size or not isinstance(mask.get('counts'), list | str):
                raise UsageError(
                    f'{path}: the run-length mask of annotation {number} is of size {mask.get("size")} and its image '
                    f'of {size} (height, width): create it again from the image with the listed size.'
                )
            if fault := fault_of(mask['counts'], *size):
                raise UsageError(
                    f'{path}: the run-length mask of annotation {number} is broken, {fault}: write it again, or remove '
                    'that annotation.'
                )
        elif not isinstance(mask, list) or not all(isinstance(polygon, list) for polygon in mask):
            raise UsageError(
                f'{path}: the segmentation of annotation {number} is neither a list of polygons ([[x, y, x, y, ...]]) '
                'nor a run-length mask with size and counts: write it as one of these.'
            )
    polygons = [mask for _, mask, _ in masks if isinstance(mask, list)]
    return sum(not any(len(ring) >= 6 and len(ring) % 2 == 0 for ring in rings) for rings in polygons)
