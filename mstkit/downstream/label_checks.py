"""Checks label maps: one channel, the size of the image, and only ids of classes."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from PIL import Image

from mstkit.errors import UsageError
from mstkit.registry import TRANSFORMS
from mstkit.utils.checks import check_count
from mstkit.utils.few_of_many import first_few
from mstkit.utils.progress_bar import track

_READERS = 2  # label maps that are decoded at a time
IGNORED = 255  # the default id that mmseg's losses, metrics, crops and padding ignore


def read_label_map(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads the stored values of a label map: indices of a palette image, and all 16 bits of a 16-bit image.

    Returns:
        (H, W), or (H, W, C) for a file with several channels.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(image)
    except Exception as error:  # damaged files surface as any kind of exception from Pillow's decoders
        reason = str(error) or type(error).__name__
        raise UsageError(f'the label map {path} cannot be read ({reason}): write or copy it again.') from error


def stored_in_bytes(path: str | os.PathLike[str]) -> bool:
    """Whether the values of a label map are stored as bytes, to which mmseg converts them. Reads only the header."""
    try:
        with Image.open(path) as image:
            return not image.mode.startswith(('I', 'F'))
    except OSError:
        return True  # reading the pixels will report the error


def check_labels(
    labels: np.ndarray,
    path: str | os.PathLike[str],
    num_ids: int,
    ignored: int = IGNORED,
    size: Sequence[int] | None = None,
) -> None:
    """Refuses a label map that a network cannot be trained on.

    Args:
        labels: should be (H, W).
        path: its file, for the message.
        num_ids: ids are 0 to ``num_ids`` - 1.
        ignored: the id of ignored pixels.
        size: (H, W) of the image.

    Raises:
        UsageError: names the file and the error.
    """
    if labels.ndim != 2:
        channels = labels.shape[2] if labels.ndim == 3 else 'no'
        raise UsageError(
            f'the label map {path} has {channels} channels, so it holds colors rather than class ids: give '
            f'PNG files with one channel whose values are the ids 0 to {num_ids - 1}.'
        )
    if size is not None and tuple(labels.shape) != tuple(size):
        (height, width), (rows, columns) = size, labels.shape
        raise UsageError(
            f'the label map {path} is {columns}x{rows} px and its image {width}x{height}: give label maps of the '
            'size of their images.'
        )
    wrong = (labels >= num_ids) & (labels != ignored)
    if wrong.any():
        ids = np.unique(labels[wrong]).tolist()
        raise UsageError(
            f'the label map {path} has the ids {first_few(ids, 5)} on {100 * wrong.mean():.2g} % of its pixels, but '
            f'ids are 0 to {num_ids - 1}, and {ignored} for ignored pixels: correct the number of classes '
            '(--num-classes N) or the label maps.'
        )


@dataclass
class LabelSurvey:
    """Statistics of the ids in label maps.

    Attributes:
        folder: of the label maps, for messages.
        names: class names by id in the files.
        num_ids: ids are 0 to ``num_ids`` - 1.
        ignored: the id of ignored pixels.
        wanted: the trained classes; None for all.
        checked: number of label maps read.
        pixels: (256,) number of pixels by id.
    """

    folder: str
    names: Mapping[int, str]
    num_ids: int
    ignored: int = IGNORED
    wanted: Sequence[str] | None = None
    checked: int = 0
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))

    def empty(self) -> LabelSurvey:
        """A survey with the same settings, without any statistics."""
        return LabelSurvey(self.folder, self.names, self.num_ids, self.ignored, self.wanted)

    def seen(self) -> list[str]:
        """The classes that occur."""
        return [name for number, name in self.names.items() if self.pixels[number]]

    def only_one_class(self) -> bool:
        """Whether no class occurs, or only one of several classes and ignored pixels, so that nothing is learned."""
        seen = len(self.seen())
        return len(self.names) > 1 and (seen == 0 or (seen == 1 and self.pixels[self.ignored] > 0))

    def judge(self, total: int) -> None:
        """Refuses label maps from which nothing can be learned, and warns of classes that do not occur.

        Args:
            total: number of label maps of the data set.

        Raises:
            UsageError: :meth:`only_one_class`.
        """
        some = f' that were checked ({total} in all)' if self.checked < total else ''
        maps = f'the {self.checked} label maps in {self.folder}{some}'
        seen = self.seen()
        if self.only_one_class():
            share = 100 * self.pixels[self.ignored] / max(self.pixels.sum(), 1)
            raise UsageError(
                f'{maps} hold {f"only the class {seen[0]!r}" if seen else "no class"} of {len(self.names)}, and the id '
                f'{self.ignored}, which is ignored, on {share:.2g} % of their pixels: there is nothing to learn. '
                'Masks that are drawn as 0 and 255 have to be written as 0 and 1 (255 means "ignored", unless '
                'ignore_index of LabelMapFolder is another id).'
            )
        wanted = list(self.names.values()) if self.wanted is None else self.wanted
        missing = [name for name in wanted if name not in seen]
        if missing:
            print_log(
                f'{len(missing)} of the {len(wanted)} classes occur nowhere in {maps}: {first_few(missing, 10)}.',
                logger='current',
                level=logging.WARNING,
            )


def survey_labels(paths: Sequence[str], survey: LabelSurvey, most: int) -> None:
    """Reads and checks label maps, evenly spaced among all of them.

    Args:
        paths: of the label maps.
        survey: updated in place.
        most: maximum number to read.

    Raises:
        UsageError: one of them is invalid or cannot be read.
    """
    count = min(most, len(paths))
    chosen = [paths[index * len(paths) // count] for index in range(count)]
    with ThreadPoolExecutor(_READERS) as pool:  # Pillow releases the GIL while it decodes
        read = pool.map(read_label_map, chosen)
        for path, labels in zip(chosen, track(read, count, 'label maps checked', is_main_process()), strict=True):
            check_labels(labels, path, survey.num_ids, survey.ignored)
            survey.pixels += np.bincount(labels.reshape(-1).astype(np.intp), minlength=256)
            survey.checked += 1


@TRANSFORMS.register_module()
class CheckLabels(BaseTransform):
    """A transform after mmseg's ``LoadAnnotations`` that stops a run at the first invalid label map.

    Args:
        num_classes: ids are 0 to ``num_classes`` - 1; by default that of the data set, which ``CityscapesFolder`` and
            ``LabelMapFolder`` provide.
        ignore_index: the id of ignored pixels, after loading.
    """

    def __init__(self, num_classes: int | None = None, ignore_index: int = IGNORED) -> None:
        self.num_classes = None if num_classes is None else check_count('CheckLabels.num_classes', num_classes, 1)
        self.ignore_index = ignore_index

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Checks ``gt_seg_map``, (H, W), against the classes and the image's own size; changes nothing.

        Raises:
            UsageError: the label map is invalid (names the file and the error) or missing, or the number of classes
                is unknown.
        """
        num_classes = results.get('num_classes') if self.num_classes is None else self.num_classes
        if num_classes is None:
            raise UsageError('CheckLabels needs num_classes: the data set does not say how many classes it has.')
        if 'gt_seg_map' not in results:
            raise UsageError('CheckLabels found no label map: put it after LoadAnnotations in the pipeline.')
        path, labels = results.get('seg_map_path', 'of this sample'), results['gt_seg_map']
        if os.path.isfile(path) and not stored_in_bytes(path):
            stored = read_label_map(path)
            if stored.max() > IGNORED:
                raise UsageError(
                    f'the label map {path} has ids up to {stored.max()}, of which mmseg keeps the lowest byte only: '
                    f'write it with ids up to {IGNORED}.'
                )
        check_labels(labels, path, num_classes, self.ignore_index, results.get('ori_shape'))
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(num_classes={self.num_classes}, ignore_index={self.ignore_index})'
