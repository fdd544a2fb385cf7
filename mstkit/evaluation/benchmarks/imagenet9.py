"""ImageNet-9 (Xiao et al., arXiv 2006.09994): folders of its variants, and the mapping from 1000 to nine classes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence

import torch
from torch import Tensor

from mstkit.errors import UsageError, nearest
from mstkit.utils.home_folder import expanded

# Named explicitly, because the data set has another folder, fg_mask, which is no variant.
VARIANTS = ('original', 'mixed_same', 'mixed_rand', 'mixed_next', 'only_fg', 'no_fg', 'only_bg_b', 'only_bg_t')
NO_CLASS = -1


def find_variants(data: str | os.PathLike[str], names: Sequence[str] | None = None) -> tuple[list[str], list[str]]:
    """Finds the variants in a folder, each in a sub-folder of its name.

    Args:
        data: the folder.
        names: the variants to use, all of which have to exist; by default those of :data:`VARIANTS` that exist, or, if
            none does, every sub-folder.

    Returns:
        The variants found, and the missing ones of :data:`VARIANTS` (empty if the folder has other names).

    Raises:
        UsageError: the folder, or a variant of ``names``, does not exist.
    """
    root = expanded(data)
    if not root.is_dir():
        raise UsageError(f'the folder of backgrounds {root} does not exist: give the folder that holds the variants.')
    present = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith('.'))
    if not present:
        raise UsageError(f'the folder of backgrounds {root} has no sub-folders, which would be the variants.')
    if names is not None:
        missing = [name for name in names if name not in present]
        if missing or not names:
            asked = repr(missing[0]) if missing else 'an empty list'
            raise UsageError(
                f'there is no variant {asked} in {root}, only {", ".join(present)}.'
                f'{nearest(missing[0], present) if missing else ""}'
            )
        return list(dict.fromkeys(names)), []
    known = [name for name in VARIANTS if name in present]
    return (known, [name for name in VARIANTS if name not in present]) if known else (present, [])


def read_class_map(path: str | os.PathLike[str], classes: int) -> Tensor:
    """Reads ``in_to_in9.json``, the mapping from the classes of a head to the nine classes.

    Args:
        path: a JSON object that maps class indices ("0" to "999") to 0 … 8, or to -1 for a class outside of the nine.
        classes: the number of classes of the head.

    Returns:
        (classes,) int64.

    Raises:
        UsageError: the file is missing, is not such an object, or has another number of classes.
    """
    file = expanded(path)
    if not file.is_file():
        raise UsageError(
            f'the class map {file} does not exist: give in_to_in9.json of the Backgrounds Challenge, or leave the map '
            'out for a head that was trained on the classes of the folders.'
        )
    try:
        content = json.loads(file.read_text(encoding='utf-8-sig'))
        pairs = {int(key): value for key, value in content.items()}
    except (ValueError, AttributeError) as error:
        raise UsageError(
            f'the class map {file} is no JSON object from class indices to numbers ({str(error)[:100]}).'
        ) from error
    if sorted(pairs) != list(range(classes)):
        raise UsageError(
            f'the class map {file} names {len(pairs)} classes and the head has {classes}: the map needs a head that '
            f'was trained on the classes 0 to {len(pairs) - 1}, which for in_to_in9.json are those of ImageNet-1k in '
            'the order of their folders.'
        )
    wrong = [value for value in pairs.values() if isinstance(value, bool) or not isinstance(value, int) or value < -1]
    if wrong or max(pairs.values()) == NO_CLASS:
        raise UsageError(f'the class map {file} maps to {wrong[0] if wrong else NO_CLASS!r}: give numbers from -1 on.')
    return torch.tensor([pairs[index] for index in range(classes)], dtype=torch.int64)


def numbers_of(folders: Sequence[str], highest: int) -> Tensor:
    """The class that the name of each folder starts with ('03_reptile' is 3), (len(folders),) int64.

    Args:
        folders: names of class folders.
        highest: the highest number in the class map.

    Raises:
        UsageError: a name does not start with a number, or with a higher one.
    """
    numbers = []
    for name in folders:
        found = re.match(r'\d+', name)
        if found is None or int(found[0]) > highest:
            raise UsageError(
                f'with a class map, class folders are called NUMBER_NAME with a number from 0 to {highest} '
                f'(such as 00_dog), and {name!r} is not: give the folder of the variants, or leave the map out.'
            )
        numbers.append(int(found[0]))
    return torch.tensor(numbers, dtype=torch.int64)
