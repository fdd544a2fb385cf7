"""The two sets of labeled images that an evaluation takes: opened, and refused where one is part of the other."""

from __future__ import annotations

import filecmp
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mmengine.logging import print_log
from torch.utils.data import Subset

from mstkit.datasets import ImageFolder, ShardDataset
from mstkit.errors import UsageError
from mstkit.evaluation.features import check_labeled
from mstkit.evaluation.protocols.weighted_knn import check_classes

# Up to so many images, each file is asked who it is: a second on a local disk. Beyond, the folders are.
_ASKED_ONE_BY_ONE = 200_000
_COMPARED = 16  # pairs of files of the same name and size whose bytes are looked at


def labeled_folder(path: str | os.PathLike[str], pipeline: Sequence[Mapping[str, Any] | Callable] = ()) -> ImageFolder:
    """Looks through a folder of images with one sub-folder per class.

    Args:
        path: the folder.
        pipeline: transforms or their configs.

    Raises:
        UsageError: it is missing, or holds no images, or no classes.
    """
    return ImageFolder(os.fspath(path), split='', labeled=True, pipeline=pipeline)


def open_sets(
    train: str | os.PathLike[str],
    val: str | os.PathLike[str],
    pipeline: Sequence[Mapping[str, Any] | Callable] = (),
    allow_overlap: bool = False,
) -> tuple[ImageFolder, ImageFolder]:
    """Opens the folders of an evaluation, with one sub-folder per class.

    Args:
        train: the folder of the images that are learned from.
        val: the folder of the images that are judged.
        pipeline: of both, transforms or their configs.
        allow_overlap: as in :func:`check_sets`.

    Raises:
        UsageError: as :func:`labeled_folder` and :func:`check_sets`.
    """
    opened = labeled_folder(train, pipeline), labeled_folder(val, pipeline)
    check_sets(*opened, allow_overlap, 'give --allow-overlap (from Python, allow_overlap=True)')
    return opened


def check_sets(train: Any, val: Any, allow_overlap: bool = False, word: str = 'set allow_overlap=True') -> None:
    """Refuses two sets of images with which nothing can be measured.

    Args:
        train: the data set of the images that are learned from, or that vote; or a ``Subset`` of one.
        val: that of the images that are judged.
        allow_overlap: only say so where images of ``val`` are in ``train`` too: the numbers are then too good.
        word: how the user sets ``allow_overlap``, for the message.

    Raises:
        UsageError: one is empty or without labels, their classes differ, or they share images.
    """
    names = [check_labeled(dataset, f'{name} set') for name, dataset in (('train', train), ('val', val))]
    if names[0] is not None and names[1] is not None:
        check_classes(names[0], names[1])
    shared = overlap(train, val)
    if not shared:
        return
    if not allow_overlap:
        raise UsageError(
            f'{shared}: an image that was learned from is recognized, whatever the features are worth. Give other '
            f'images to one of the two, or to measure it all the same, {word}.'
        )
    print_log(f'{shared}: the numbers will be too good.', logger='current', level=logging.WARNING)


def overlap(train: Any, val: Any) -> str:
    """What two data sets share, in words; ``''`` where nothing is known to be shared.

    Two data sets of files share what leads to the same file, by whatever links and lists; a copy is noticed where
    ``val`` is one as a whole, by names, sizes and the content of some files. Very large ones are compared by their
    folders, shards by their places, and data sets that hold their images in memory not at all.

    Args:
        train, val: data sets, or ``Subset`` of some, of which all images count.
    """
    first, second = _whole(train), _whole(val)
    if isinstance(first, ImageFolder) and isinstance(second, ImageFolder):
        shared = _shared_folder(first, second)
        if shared or len(first) + len(second) > _ASKED_ONE_BY_ONE:
            return shared
    if isinstance(first, ShardDataset) and isinstance(second, ShardDataset):
        places = [{_place(url) for url in dataset.index.urls} for dataset in (first, second)]
        return _counted(len(places[0] & places[1]), len(places[1]), 'shards')
    paths = [_paths(dataset) for dataset in (first, second)]
    if not paths[0] or not paths[1]:
        return ''
    known = [_identities(part) for part in paths]
    shared = _counted(len(known[0].keys() & known[1].keys()), len(known[1]), 'images')
    return shared or _copied(known[0].values(), known[1].values())


def _whole(dataset: Any) -> Any:
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return dataset


def _shared_folder(train: ImageFolder, val: ImageFolder) -> str:
    """Whether one folder is the other, holds it, or has one of its classes by a link."""
    roots = [os.path.realpath(dataset.folder) for dataset in (train, val)]
    if roots[0] == roots[1]:
        return f'train and val are the same folder, {train.folder}'
    for outer, inner, what in ((roots[0], roots[1], 'val lies in train'), (roots[1], roots[0], 'train lies in val')):
        if _lies_in(inner, outer):
            return f'{what}: {inner} is part of {outer}'
    inside = [
        {os.path.realpath(os.path.join(dataset.folder, name)): name for name in dataset.metainfo.get('classes') or ()}
        for dataset in (train, val)
    ]
    both = sorted(inside[1][place] for place in inside[0].keys() & inside[1].keys())
    return f'train and val have the same class folders, by links: {", ".join(both[:5])}' if both else ''


def _lies_in(inner: str, outer: str) -> bool:
    return os.path.commonpath([inner, outer]) == outer


def _place(url: str) -> str:
    return url if '://' in url or url.startswith('pipe:') else os.path.realpath(url)


def _paths(dataset: Any) -> list[str]:
    """The files of a data set; none where its images are no files."""
    if isinstance(dataset, ShardDataset) or not hasattr(dataset, 'get_data_info') or len(dataset) > _ASKED_ONE_BY_ONE:
        return []
    first = dataset.get_data_info(0)
    if 'img' in first or not isinstance(first.get('img_path'), str):
        return []
    return [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]


def _identities(paths: Iterable[str]) -> dict[tuple[int, int], tuple[str, int]]:
    """Each file that is there, once, whatever leads to it: its path and size."""
    found = {}
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            continue
        found[status.st_dev, status.st_ino] = path, status.st_size
    return found


def _counted(shared: int, size: int, what: str) -> str:
    return f'{shared} of the {size} {what} of val are in train too' if shared else ''


def _copied(train: Iterable[tuple[str, int]], val: Iterable[tuple[str, int]]) -> str:
    """Whether more than half of val has its like in train, as far as some files tell that are looked at."""
    by_name: dict[tuple[str, int], list[str]] = {}
    for path, size in train:
        by_name.setdefault((os.path.basename(path), size), []).append(path)
    files = list(val)
    alike = [path for path, size in files if size and (os.path.basename(path), size) in by_name]
    if 2 * len(alike) <= len(files):
        return ''
    step = -(-len(alike) // _COMPARED)
    looked_at = alike[::step]
    same = sum(_has_twin(path, by_name) for path in looked_at)
    if 2 * same <= len(looked_at):
        return ''
    return (
        f'val looks like a copy of train or of a part of it: {len(alike)} of its {len(files)} files have the name and '
        f'the size of one there, and {same} of {len(looked_at)} that were compared are equal to the byte'
    )


def _has_twin(path: str, by_name: Mapping[tuple[str, int], Sequence[str]]) -> bool:
    others = by_name[os.path.basename(path), os.path.getsize(path)]
    return any(filecmp.cmp(path, other, shallow=False) for other in others[:_COMPARED])
