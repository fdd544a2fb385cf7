"""Opens the train and val images of an evaluation, and refuses sets that share images."""

from __future__ import annotations

import filecmp
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mmengine.logging import print_log
from torch.utils.data import Subset

from mstkit.datasets import ImageFolder, ShardDataset
from mstkit.datasets.dataset_interface import ListedDataset
from mstkit.errors import UsageError
from mstkit.evaluation.features import check_labeled
from mstkit.evaluation.protocols.weighted_knn import check_classes

# Up to this many images, files are compared by inode (about a second on a local disk); beyond, only by folder.
_MAX_FILES = 200_000
_MAX_PAIRS = 16  # pairs of files of the same name and size whose bytes are compared


def labeled_folder(path: str | os.PathLike[str], pipeline: Sequence[Mapping[str, Any] | Callable] = ()) -> ImageFolder:
    """Opens a folder of images with one sub-folder per class.

    Args:
        path: the folder.
        pipeline: transforms or their configs.

    Raises:
        UsageError: the folder is missing, or has no images or no class folders.
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
        train: the folder of the training images (the bank of k-NN).
        val: the folder of the validation images.
        pipeline: of both, transforms or their configs.
        allow_overlap: as in :func:`check_sets`.

    Raises:
        UsageError: as :func:`labeled_folder` and :func:`check_sets`.
    """
    opened = labeled_folder(train, pipeline), labeled_folder(val, pipeline)
    check_sets(*opened, allow_overlap, 'give --allow-overlap (from Python, allow_overlap=True)')
    return opened


def check_sets(train: Any, val: Any, allow_overlap: bool = False, option: str = 'set allow_overlap=True') -> None:
    """Refuses train and val sets that are unsuitable for an evaluation.

    Args:
        train: the training images (the bank of k-NN), a data set or a ``Subset`` of one.
        val: the validation images, likewise.
        allow_overlap: log a warning, instead of an error, if images of ``val`` are in ``train`` too.
        option: how the user sets ``allow_overlap``, for the message.

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
            f'{shared}: images seen in training are recognized even with poor features. Use other images for one of '
            f'the two, or to measure it all the same, {option}.'
        )
    print_log(f'{shared}: the numbers will be too good.', logger='current', level=logging.WARNING)


def overlap(train: Any, val: Any) -> str:
    """A sentence about the images that two data sets share; ``''`` if none are known.

    Files are compared by device and inode, so that links are found. Copied files are found only if ``val`` as a whole
    is a copy, by names, sizes and the bytes of some files. Very large folders are compared by path only, shards by
    path or URL. Data sets that hold their images in memory are not compared.

    Args:
        train, val: data sets; of a ``Subset``, all images of its data set count.
    """
    first, second = _whole(train), _whole(val)
    if isinstance(first, ImageFolder) and isinstance(second, ImageFolder):
        shared = _shared_folder(first, second)
        if shared or len(first) + len(second) > _MAX_FILES:
            return shared
    if isinstance(first, ShardDataset) and isinstance(second, ShardDataset):
        urls = [{_resolved(url) for url in dataset.index.urls} for dataset in (first, second)]
        return _counted(len(urls[0] & urls[1]), len(urls[1]), 'shards')
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
    """A sentence if one folder is the other, contains it, or has one of its class folders by a link; else ``''``."""
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
    both = sorted(inside[1][path] for path in inside[0].keys() & inside[1].keys())
    return f'train and val have the same class folders, by links: {", ".join(both[:5])}' if both else ''


def _lies_in(inner: str, outer: str) -> bool:
    return os.path.commonpath([inner, outer]) == outer


def _resolved(url: str) -> str:
    return url if '://' in url or url.startswith('pipe:') else os.path.realpath(url)


def _paths(dataset: Any) -> list[str]:
    """The image files of a data set; empty if its images are not files, or if there are too many."""
    if isinstance(dataset, ShardDataset) or not isinstance(dataset, ListedDataset) or len(dataset) > _MAX_FILES:
        return []
    first = dataset.get_data_info(0)
    if 'img' in first or not isinstance(first.get('img_path'), str):
        return []
    return [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]


def _identities(paths: Iterable[str]) -> dict[tuple[int, int], tuple[str, int]]:
    """Path and size of each existing file by (device, inode), so that links to a file count once."""
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
    """A sentence if more than half of val seem to be copies of files in train (some are compared); else ``''``."""
    by_name: dict[tuple[str, int], list[str]] = {}
    for path, size in train:
        by_name.setdefault((os.path.basename(path), size), []).append(path)
    files = list(val)
    alike = [path for path, size in files if size and (os.path.basename(path), size) in by_name]
    if 2 * len(alike) <= len(files):
        return ''
    step = -(-len(alike) // _MAX_PAIRS)
    compared = alike[::step]
    same = sum(_has_twin(path, by_name) for path in compared)
    if 2 * same <= len(compared):
        return ''
    return (
        f'val looks like a copy of train or of a part of it: {len(alike)} of its {len(files)} files have the name and '
        f'the size of a file in train, and {same} of {len(compared)} that were compared are equal byte for byte'
    )


def _has_twin(path: str, by_name: Mapping[tuple[str, int], Sequence[str]]) -> bool:
    others = by_name[os.path.basename(path), os.path.getsize(path)]
    return any(filecmp.cmp(path, other, shallow=False) for other in others[:_MAX_PAIRS])
