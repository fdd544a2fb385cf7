"""A data set of the images in a folder: flat, nested, or with one sub-folder per class."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmengine.logging import print_log

from mstkit.datasets.file_dataset import FileDataset
from mstkit.datasets.folder_scan import IMAGE_EXTENSIONS, class_folders, scan_folder
from mstkit.datasets.memory_budget import Memory
from mstkit.datasets.splits import find_split, splits_among
from mstkit.errors import UsageError
from mstkit.registry import DATASETS
from mstkit.utils.checks import check_count


@DATASETS.register_module()
class ImageFolder(FileDataset):
    """All images in a folder; labels follow from its sub-folders.

    The folder is ``data_root/split`` if that exists; for ``split='train'`` it may also be ``data_root`` itself. If
    every image lies in a sub-folder and there are at least two of them, the sub-folders are the classes (sorted by
    name, ``metainfo['classes']``, without those that have no images), and samples have ``gt_label``. Otherwise (flat or
    mixed) samples have no label. Sub-folders with names of splits (``train`` and ``val``) are not taken as classes,
    unless ``metainfo`` names them. Images are sorted by name within each folder.

    Args:
        data_root: the folder, or the folder of the splits.
        split: ``'train'``, ``'val'`` or any other sub-folder's name; ``''`` is ``data_root`` itself.
        pipeline: transforms or their configs.
        labeled: ``'auto'`` as above; ``False`` for no labels; ``True`` refuses a folder without classes.
        extensions: file extensions of images; case does not matter.
        max_per_class: use only the first files of each class (AttMask's 20 % of ImageNet are the first 260).
        max_images: use only this many images, evenly spaced over all, so that all classes remain.
        metainfo: ``dict(classes=...)`` fixes names and order, for instance to those of the training split.
        test_mode, lazy_init, serialize_data: as in mmengine.
        memory: whether images are kept in memory once decoded, see :class:`FileDataset`.

    Raises:
        UsageError: the folder is missing, empty or without images, or a setting does not fit.
    """

    def __init__(
        self,
        data_root: str | os.PathLike[str] | None,
        split: str = 'train',
        pipeline: Sequence[Mapping[str, Any] | Callable] = (),
        labeled: bool | str = 'auto',
        extensions: Sequence[str] = IMAGE_EXTENSIONS,
        max_per_class: int | None = None,
        max_images: int | None = None,
        metainfo: Mapping[str, Any] | None = None,
        test_mode: bool = False,
        lazy_init: bool = False,
        serialize_data: bool = True,
        memory: Memory = 'auto',
    ) -> None:
        if labeled not in ('auto', True, False):
            raise UsageError(f"ImageFolder.labeled is {labeled!r}: give 'auto', True or False.")
        if isinstance(extensions, str) or not extensions:
            raise UsageError(f"ImageFolder.extensions is {extensions!r}: give a list such as ['.jpg', '.png'].")
        self.labeled = labeled
        self.extensions = tuple('.' + ending.lower().lstrip('.') for ending in extensions)
        for name, limit in (('max_per_class', max_per_class), ('max_images', max_images)):
            if limit is not None:
                check_count(f'ImageFolder.{name}', limit, 1)
        self.max_per_class = max_per_class
        self.max_images = max_images
        self.folder = find_split(os.fspath(data_root or ''), split)
        super().__init__(data_root or '', pipeline, metainfo, test_mode, lazy_init, serialize_data, memory)

    @classmethod
    def classes_of(cls, config: Mapping[str, Any]) -> tuple[str, ...] | None:
        """The classes of a data set, from its config without building it; None unless ``labeled`` is True.

        Stops searching a sub-folder at its first image.
        """
        if config.get('labeled', 'auto') is not True:
            return None
        folder = find_split(os.fspath(config.get('data_root') or ''), config.get('split', 'train'))
        names = class_folders(folder, tuple(config.get('extensions', IMAGE_EXTENSIONS)))
        if splits := splits_among(names):
            raise UsageError(_no_classes(folder, splits))
        return tuple(names)

    @classmethod
    def images_of(cls, config: Mapping[str, Any]) -> int | None:
        """How many images a data set has, from its config: searches the folder; None with ``max_per_class``."""
        if config.get('max_per_class') is not None:
            return None
        folder = find_split(os.fspath(config.get('data_root') or ''), config.get('split', 'train'))
        found = len(scan_folder(folder, tuple(config.get('extensions', IMAGE_EXTENSIONS))).images)
        return min(found, config.get('max_images') or found) or None

    def load_data_list(self) -> list[dict[str, Any]]:
        """Lists the images: dicts with ``img_path`` and, if there are classes, ``gt_label``."""
        scan = scan_folder(self.folder, self.extensions)
        if not scan.images:
            raise UsageError(
                f'the folder {self.folder} holds no images{scan.ignored_in_words()}: give the folder that holds them, '
                f'directly or in sub-folders; known endings are {" ".join(self.extensions)}.'
            )
        samples: list[dict[str, Any]] = [dict(img_path=os.path.join(self.folder, path)) for path in scan.images]
        names = [path.partition('/')[0] if '/' in path else None for path in scan.images]
        classes = self._classes(names)
        if classes is not None:
            index = {name: label for label, name in enumerate(classes)}
            for sample, path in zip(samples, scan.images, strict=True):
                sample['gt_label'] = index[path.partition('/')[0]]
            self._metainfo['classes'] = tuple(classes)
        kept = self._subset(samples)
        less = '' if len(kept) == len(samples) else f' ({len(kept)} of them used)'
        layout = 'without labels' if classes is None else f'in {len(classes)} classes'
        print_log(
            f'ImageFolder: {len(samples)} images {layout} in {self.folder}{less}{scan.ignored_in_words()}',
            logger='current',
        )
        return kept

    def _classes(self, names: list[str | None]) -> list[str] | None:
        """The class names, or None without classes; ``names`` are the first-level folders of the images."""
        if self.labeled is False:
            return None
        found = sorted({name for name in names if name is not None})
        fixed = self._metainfo.get('classes')
        splits = splits_among(name for name in found if fixed is None or name not in set(fixed))
        if splits and (self.labeled is True or fixed is not None):
            raise UsageError(_no_classes(self.folder, splits))
        if splits:
            print_log(
                f'ImageFolder: {self.folder} holds {" and ".join(splits)}, which are taken together, as splits of a '
                'data set and not as classes; give one of them to read it alone.',
                logger='current',
                level=logging.WARNING,
            )
            return None
        if None in names or (len(found) < 2 and fixed is None):
            if self.labeled is True or fixed is not None:
                raise UsageError(
                    f'the folder {self.folder} has no classes: with labels, every image lies in a sub-folder that is '
                    'named as its class, and there are at least two of those.'
                )
            return None
        if fixed is None:
            return found
        unknown = [name for name in found if name not in set(fixed)]
        if unknown:
            raise UsageError(
                f'the folder {self.folder} has the sub-folder {unknown[0]!r}, which is none of the {len(fixed)} '
                'classes in metainfo: rename or remove it, or add it to the classes.'
            )
        return list(fixed)

    def _subset(self, samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if self.max_per_class is not None:
            if 'gt_label' not in samples[0]:
                raise UsageError(
                    f'ImageFolder.max_per_class is {self.max_per_class} and the folder {self.folder} has no classes: '
                    'use max_images.'
                )
            taken: dict[int, int] = {}
            kept = []
            for sample in samples:
                count = taken[sample['gt_label']] = taken.get(sample['gt_label'], 0) + 1
                if count <= self.max_per_class:
                    kept.append(sample)
            samples = kept
        if self.max_images is not None and self.max_images < len(samples):
            samples = [samples[i * len(samples) // self.max_images] for i in range(self.max_images)]
        return samples


def _no_classes(folder: str, splits: Sequence[str]) -> str:
    """Message for a folder of splits where one of classes was expected."""
    others = ', '.join(os.path.join(folder, name) for name in splits)
    return (
        f'the folder {folder} holds {" and ".join(splits)}, which are splits of a data set and no classes: give one of '
        f'them, {others}. Where they are classes all the same, name them in metainfo.classes.'
    )
