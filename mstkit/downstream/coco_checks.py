"""Checks an annotation file in COCO's format, before mmdet would fail on it in the middle of a run."""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mstkit.downstream.few_of_many import first_few
from mstkit.downstream.run_lengths import fault_of
from mstkit.errors import UsageError, nearest

_NUMBER, _ID = (int, float), (int, str)
# The fields of entries that mmdet and pycocotools read, with their types.
FIELDS: dict[str, dict[str, Any]] = {
    'images': dict(id=_ID, file_name=str, width=_NUMBER, height=_NUMBER),
    'categories': dict(id=int, name=str),
    'annotations': dict(id=_ID, image_id=_ID, category_id=int, bbox=list, area=_NUMBER, iscrowd=int),
}


def check_entries(content: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Refuses entries without a required field, duplicate ids, and annotations of unknown images or categories.

    Args:
        content: the file's lists, by name.
        path: the file, for messages.

    Raises:
        UsageError: names the first such entry.
    """
    for name, fields in FIELDS.items():
        _check_fields(content[name], fields, f'{path}: {name}')
    _check_references(content, path)


def has_fields(entry: Any, fields: Mapping[str, Any]) -> bool:
    """Whether an entry has all fields, with values of the right types."""
    return isinstance(entry, dict) and all(isinstance(entry.get(name), kind) for name, kind in fields.items())


def listing(folder: str) -> set[str]:
    """The names in a folder; empty if the folder does not exist."""
    try:
        with os.scandir(folder or '.') as entries:
            return {entry.name for entry in entries}
    except (FileNotFoundError, NotADirectoryError):
        return set()


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


def check_images(names: Iterable[str], folder: str, path: str | os.PathLike[str]) -> None:
    """Refuses an annotation file with missing images. Each folder is listed once, and no file is opened.

    Args:
        names: the images' paths relative to ``folder``.
        folder: the folder of the images.
        path: the annotation file, for the message.

    Raises:
        UsageError: with the number of missing images and the first of them; or a name is a URL, which mmdet would
            download.
    """
    names = list(names)
    if urls := [name for name in names if '://' in name]:
        raise UsageError(
            f'{len(urls)} of the {len(names)} images in {path} are named by a URL, the first is {urls[0]}: images '
            'are read from the local disk only. Download them and write their paths as file_name, or use '
            'mmdet.CocoDataset for files elsewhere.'
        )
    if not os.path.isdir(folder or '.'):
        raise UsageError(
            f'the folder of images {folder} does not exist, which {path} belongs to: give the folder as '
            'data_prefix=dict(img=...), relative to the data root.'
        )
    by_folder: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_folder[os.path.dirname(name)].append(name)
    missing: list[str] = []
    for part, inside in by_folder.items():
        present = listing(os.path.join(folder, part))
        missing += [name for name in inside if os.path.basename(name) not in present]
    if missing:
        total = sum(map(len, by_folder.values()))
        raise UsageError(
            f'{len(missing)} of the {total} images in {path} are not in {folder}: {first_few(sorted(missing))}. '
            'Give the folder that holds them as data_prefix=dict(img=...), or copy the missing ones.'
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


def _check_fields(entries: Sequence[Any], fields: Mapping[str, Any], where: str) -> None:
    for number, entry in enumerate(entries):
        if has_fields(entry, fields) and ('bbox' not in fields or _is_box(entry['bbox'])):
            continue
        given = entry if isinstance(entry, dict) else {}
        wrong = next((name for name, kind in fields.items() if not isinstance(given.get(name), kind)), 'bbox')
        said = f'{wrong} {given[wrong]!r}' if wrong in given else f'no {wrong}'
        named = f' (id {given["id"]!r})' if 'id' in given else ''
        raise UsageError(
            f'{where}[{number}]{named} has {said}: in COCO’s format every entry of that list has '
            f'{", ".join(fields)}{"; a bbox is four numbers x, y, width, height" if "bbox" in fields else ""}.'
        )
    counts = Counter(entry['id'] for entry in entries)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise UsageError(f'{where} has the id {twice[0]!r} more than once: give every entry an id of its own.')


def _is_box(values: list[Any]) -> bool:
    return len(values) == 4 and all(isinstance(value, _NUMBER) and math.isfinite(value) for value in values)


def _check_references(content: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    annotations = content['annotations']
    for key, name in (('category_id', 'categories'), ('image_id', 'images')):
        known = {entry['id'] for entry in content[name]}
        lost = [entry for entry in annotations if entry[key] not in known]
        if lost:
            raise UsageError(
                f'{path}: {len(lost)} of {len(annotations)} annotations have a {key} that is in none of its '
                f'{len(known)} {name}, the first is annotation {lost[0]["id"]!r} with {key} {lost[0][key]!r}: correct '
                f'it, or add it to the {name}.'
            )
    names = [category['name'] for category in content['categories']]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UsageError(f'{path} has two categories called {twice[0]!r}: give every category a name of its own.')
