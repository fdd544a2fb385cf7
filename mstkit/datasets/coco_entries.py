"""Checks the entries and the images of an annotation file in COCO's format, before a run would fail on them."""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mstkit.errors import UsageError
from mstkit.utils.few_of_many import first_few

_NUMBER, _ID = (int, float), (int, str)
_OPTION = 'data_prefix=dict(img=...), relative to the data root'
# The fields of entries that mmdet and pycocotools read, with their types.
FIELDS: dict[str, dict[str, Any]] = {
    'images': dict(id=_ID, file_name=str, width=_NUMBER, height=_NUMBER),
    'categories': dict(id=int, name=str),
    'annotations': dict(id=_ID, image_id=_ID, category_id=int, bbox=list, area=_NUMBER, iscrowd=int),
}


def check_entries(
    content: Mapping[str, Any], path: str | os.PathLike[str], lists: Mapping[str, Mapping[str, Any]]
) -> None:
    """Refuses entries without a required field, duplicate ids, and annotations of unknown images or categories.

    Args:
        content: the file's lists, by name.
        path: the file, for messages.
        lists: the required fields of each list's entries, with their types, such as :data:`FIELDS`.

    Raises:
        UsageError: names the first such entry.
    """
    for name, fields in lists.items():
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


def check_images(names: Iterable[str], folder: str, path: str | os.PathLike[str], option: str = _OPTION) -> None:
    """Refuses an annotation file with missing images. Each folder is listed once, and no file is opened.

    Args:
        names: the images' paths relative to ``folder``.
        folder: the folder of the images.
        path: the annotation file, for the message.
        option: how the folder is given, for the message.

    Raises:
        UsageError: with the number of missing images and the first of them; or a name is a URL, which mmdet would
            download.
    """
    names = list(names)
    if urls := [name for name in names if '://' in name]:
        raise UsageError(
            f'{len(urls)} of the {len(names)} images in {path} are named by a URL, the first is {urls[0]}: images '
            'are read from the local disk only. Download them and write their paths as file_name, or detect with '
            'mmdet.CocoDataset, which reads files elsewhere.'
        )
    if not os.path.isdir(folder or '.'):
        raise UsageError(
            f'the folder of images {folder} does not exist, which {path} belongs to: give the folder as {option}.'
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
            f'Give the folder that holds them as {option}, or copy the missing ones.'
        )


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
