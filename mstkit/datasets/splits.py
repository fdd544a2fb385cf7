"""Finds the split folders of a data set: train, val, test."""

from __future__ import annotations

import os
from collections.abc import Iterable

from mstkit.datasets.folder_scan import listing
from mstkit.errors import UsageError

TRAINING = ('train', 'training')
EVALUATION = ('val', 'valid', 'validation', 'dev', 'eval', 'evaluation', 'test', 'testing')


def splits_among(names: Iterable[str]) -> list[str]:
    """Decides whether sub-folders are splits rather than classes, and returns the names of the splits.

    They are splits if there is one for training and one for evaluation, or if there are several and all have names of
    splits. A single class may be called train (the vehicle, in VOC) or test.

    Args:
        names: of the sub-folders with images; case does not matter.

    Returns:
        The splits in the given order; empty if the sub-folders may be classes.
    """
    names = list(names)
    found = [name for name in names if name.lower() in TRAINING + EVALUATION]
    learned = [name for name in found if name.lower() in TRAINING]
    both = learned and len(learned) < len(found)
    return found if both or (len(found) > 1 and len(found) == len(names)) else []


def find_split(data_root: str, split: str) -> str:
    """The folder of a split of a data set; see :class:`ImageFolder`.

    Args:
        data_root: the folder, or the folder of the splits.
        split: the split's name, or ``''``.

    Returns:
        ``data_root/split``, or ``data_root``.

    Raises:
        UsageError: there is no such folder.
    """
    if not data_root:
        raise UsageError('no data root was given: give the folder of images (data_root, or --data-root).')
    root = os.path.expanduser(data_root)
    if not os.path.exists(root):
        raise UsageError(f'the data root {data_root} does not exist: give the folder that holds the images.')
    if not os.path.isdir(root):
        raise UsageError(f'the data root {data_root} is a file: give the folder that holds the images.')
    folder = os.path.join(root, split)
    if os.path.isdir(folder):
        return folder if split else root
    others = [entry.name for entry in listing(root) if entry.name.lower() in TRAINING + EVALUATION and entry.is_dir()]
    if split == 'train' and not others:
        return root
    if split == 'train':
        # Otherwise the validation images would become training images, as a class of their own.
        raise UsageError(
            f'{data_root} has a folder {others[0]!r} and no folder {split!r}: name the folder of training images '
            f'{split!r}, or give the folder of images itself as the data root.'
        )
    there = f', or split={others[0]!r}, which exists' if others else ''
    raise UsageError(
        f"there is no folder {folder} for the split {split!r}: make it, or give split='' to use {data_root} "
        f'itself{there}.'
    )
