"""Whether a label map can be trained on: one channel, the size of its image, and no ids but those of classes."""

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

from mstkit.downstream.few_of_many import first_few
from mstkit.errors import UsageError
from mstkit.registry import TRANSFORMS
from mstkit.utils.checks import check_count
from mstkit.utils.progress_bar import track

_READERS = 2  # label maps that are decoded at a time
IGNORED = 255  # what mmseg's losses, metrics, crops and padding leave out unless each of them is told otherwise


def read_label_map(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads the values that are stored in a label map: of a palette image the indices, of 16 bits all of them.

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
    """Whether mmseg, which makes bytes of the values, sees them as they are. Reads the head of the file only."""
    try:
        with Image.open(path) as image:
            return not image.mode.startswith(('I', 'F'))
    except OSError:
        return True  # whoever reads its pixels says what is wrong


def check_labels(
    labels: np.ndarray,
    path: str | os.PathLike[str],
    num_ids: int,
    ignored: int = IGNORED,
    size: Sequence[int] | None = None,
) -> None:
    """Refuses a label map that a network cannot be trained on.

    Args:
        labels: (H, W), or whatever else was read.
        path: its file, for the message.
        num_ids: ids are 0 to one less.
        ignored: the id of pixels that do not count.
        size: (H, W) of the image.

    Raises:
        UsageError: naming the file and what is wrong.
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
            f'ids are 0 to {num_ids - 1}, and {ignored} for what does not count: correct the number of classes '
            '(--num-classes N) or the label maps.'
        )


@dataclass
class LabelSurvey:
    """Which ids label maps hold.

    Attributes:
        folder: of the label maps, for messages.
        names: of the classes in the files, by id.
        num_ids: ids are 0 to one less.
        ignored: the id of pixels that do not count.
        wanted: the classes that are trained on; all without it.
        looked_at: label maps that were read.
        pixels: (256,) how many pixels have each id.
    """

    folder: str
    names: Mapping[int, str]
    num_ids: int
    ignored: int = IGNORED
    wanted: Sequence[str] | None = None
    looked_at: int = 0
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))

    def empty(self) -> LabelSurvey:
        """The same before anything was looked at."""
        return LabelSurvey(self.folder, self.names, self.num_ids, self.ignored, self.wanted)

    def seen(self) -> list[str]:
        """The classes of which a pixel was seen."""
        return [name for number, name in self.names.items() if self.pixels[number]]

    def only_one_class(self) -> bool:
        """Whether there is nothing to tell apart: one of several classes at most, beside pixels that do not count."""
        seen = len(self.seen())
        return len(self.names) > 1 and (seen == 0 or (seen == 1 and self.pixels[self.ignored] > 0))

    def judge(self, total: int) -> None:
        """Refuses label maps from which nothing can be learned, and warns of classes that do not occur.

        Args:
            total: label maps of the data set.

        Raises:
            UsageError: :meth:`only_one_class`.
        """
        some = f' that were looked at ({total} in all)' if self.looked_at < total else ''
        maps = f'the {self.looked_at} label maps in {self.folder}{some}'
        seen = self.seen()
        if self.only_one_class():
            share = 100 * self.pixels[self.ignored] / max(self.pixels.sum(), 1)
            raise UsageError(
                f'{maps} hold no class but {repr(seen[0]) if seen else "none"} of {len(self.names)}, and the id '
                f'{self.ignored}, which does not count, on {share:.2g} % of their pixels: there is nothing to learn. '
                'Masks that are drawn as 0 and 255 have to be written as 0 and 1 (255 means "does not count", unless '
                'ignore_index of LabelMapFolder names another id).'
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
    """Reads label maps, evenly spread over all of them, and checks each.

    Args:
        paths: of the label maps.
        survey: counts what they hold.
        most: how many are read.

    Raises:
        UsageError: one of them cannot be trained on, or not be read.
    """
    count = min(most, len(paths))
    chosen = [paths[index * len(paths) // count] for index in range(count)]
    with ThreadPoolExecutor(_READERS) as pool:  # Pillow decodes without holding Python's lock
        read = pool.map(read_label_map, chosen)
        for path, labels in zip(chosen, track(read, count, 'label maps looked at', is_main_process()), strict=True):
            check_labels(labels, path, survey.num_ids, survey.ignored)
            survey.pixels += np.bincount(labels.reshape(-1).astype(np.intp), minlength=256)
            survey.looked_at += 1


@TRANSFORMS.register_module()
class CheckLabels(BaseTransform):
    """After mmseg's ``LoadAnnotations``: stops a run at the first label map that cannot be trained on.

    Args:
        num_classes: ids are 0 to one less; without it as many as the data set says, which ``CityscapesFolder`` and
            ``LabelMapFolder`` do.
        ignore_index: the id, after loading, of pixels that do not count.
    """

    def __init__(self, num_classes: int | None = None, ignore_index: int = IGNORED) -> None:
        self.num_classes = None if num_classes is None else check_count('CheckLabels.num_classes', num_classes, 1)
        self.ignore_index = ignore_index

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Checks ``gt_seg_map``, (H, W), against the classes and the image's own size; changes nothing.

        Raises:
            UsageError: naming the file and what is wrong with it; or there is no label map yet, or nothing says how
                many classes there are.
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
