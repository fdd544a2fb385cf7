"""Reads and checks annotation files in COCO's format, or only reads their classes. Does not need mmdet."""

from __future__ import annotations

import itertools
import json
import mmap
import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from mstkit.datasets.coco_entries import FIELDS, check_entries, has_fields, listing
from mstkit.errors import UsageError, nearest
from mstkit.utils.few_of_many import first_few

_CATEGORIES = re.compile(rb'"categories"\s*:\s*')
_LONGEST_CATEGORIES = 1 << 22  # bytes; those of LVIS, with their definitions, are a tenth of it


class AnnotationFile(NamedTuple):
    """What a file has to hold, and what messages call it.

    Attributes:
        purpose: what it annotates, as in ``annotation file for detection``.
        example: a name of such a file.
        option: how another file is given.
        lists: the required fields of each list's entries, with their types; None for those of detection.
    """

    purpose: str = 'detection'
    example: str = 'instances_train2017.json'
    option: str = 'the data root (--data-root DIR) or ann_file'
    lists: Mapping[str, Mapping[str, Any]] | None = None

    @property
    def fields(self) -> Mapping[str, Mapping[str, Any]]:
        """The required fields of each list's entries, with their types."""
        return FIELDS if self.lists is None else self.lists


DETECTION = AnnotationFile()


def read_coco(path: str | os.PathLike[str], kind: AnnotationFile = DETECTION) -> dict[str, Any]:
    """Reads an annotation file and checks its entries.

    Args:
        path: a JSON file with ``images``, ``annotations`` and ``categories``.
        kind: what it has to hold.

    Returns:
        Its content.

    Raises:
        UsageError: the file is missing or not JSON, one of the three lists is missing or empty, an entry lacks a field
            that training or evaluation needs, an id is not unique, or an annotation has an unknown image or category.
    """
    content = _load(path, kind)
    missing = [name for name in kind.fields if not isinstance(content.get(name), list)]
    if missing:
        raise UsageError(
            f'{path} has no {" and no ".join(missing)} (it has {first_few(list(content), 6) or "nothing"}): give an '
            f'annotation file for {kind.purpose} in COCO’s format, such as {kind.example}.'
        )
    for name in ('images', 'categories'):
        if not content[name]:
            raise UsageError(f'the list of {name} in {path} is empty: give an annotation file that has some.')
    check_entries(content, path, kind.fields)
    return content


def coco_classes(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The names of the categories in the order of their ids, mostly without reading the rest of the file.

    Raises:
        UsageError: the file is missing, unreadable or has no categories.
    """
    return tuple(category['name'] for category in sorted(coco_categories(path), key=lambda category: category['id']))


def coco_categories(path: str | os.PathLike[str], kind: AnnotationFile = DETECTION) -> list[dict[str, Any]]:
    """The categories in the order of the file, mostly without reading the rest of it.

    Args:
        path: a JSON file in COCO's format.
        kind: what it has to hold.

    Raises:
        UsageError: the file is missing, unreadable or has no categories.
    """
    categories = _categories_alone(path)
    return read_coco(path, kind)['categories'] if categories is None else categories


def _load(path: str | os.PathLike[str], kind: AnnotationFile) -> dict[str, Any]:
    try:
        with open(path, encoding='utf-8-sig') as file:
            text = file.read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise UsageError(f'there is no annotation file {path}{_beside(os.fspath(path), kind.option)}') from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f'{path} cannot be read ({error}): give a JSON file in COCO’s format.') from error
    try:
        content = json.loads(text)
    except ValueError as error:
        position = error.pos if isinstance(error, json.JSONDecodeError) else 0
        at_end = position >= len(text.rstrip()) - len('false') or 'Unterminated' in str(error)
        reason = 'it ends in the middle' if at_end else str(error)
        raise UsageError(f'{path} is not a complete JSON file ({reason}): copy or write it again.') from None
    if not isinstance(content, dict):
        raise UsageError(
            f'{path} holds a {type(content).__name__} and not images, annotations and categories: give an annotation '
            f'file for {kind.purpose} in COCO’s format, not a file of results.'
        )
    return content


def _beside(path: str, option: str) -> str:
    """The end of the message about a missing file: a hint at what to give instead."""
    folder = os.path.dirname(path) or '.'
    if not os.path.isdir(folder):
        return f': the folder {folder} does not exist. Give {option}.'
    others = sorted(name for name in listing(folder) if name.endswith('.json'))
    if not others:
        return f', and no other JSON file beside it in {folder}: give {option}.'
    hint = nearest(os.path.basename(path), others)
    return f'; beside it lie {first_few(others, 5)}: give one of them as {option.split()[-1]}.{hint}'


def _categories_alone(path: str | os.PathLike[str]) -> list[dict[str, Any]] | None:
    """The categories, if the file contains exactly one such list and it is valid; otherwise None."""
    try:
        with open(path, 'rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found = [match.end() for match in itertools.islice(_CATEGORIES.finditer(content), 2)]
            if len(found) != 1:
                return None
            text = content[found[0] : found[0] + _LONGEST_CATEGORIES].decode('utf-8', errors='ignore')
            categories, _ = json.JSONDecoder().raw_decode(text)
    except (OSError, ValueError):
        return None  # reading the whole file will report the error
    whole = isinstance(categories, list) and all(has_fields(entry, FIELDS['categories']) for entry in categories)
    return categories if whole and categories else None
