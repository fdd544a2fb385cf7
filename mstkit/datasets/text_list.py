"""A data set of the images listed in a text file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmengine.logging import print_log

from mstkit.datasets.file_dataset import FileDataset
from mstkit.datasets.folder_scan import IMAGE_EXTENSIONS
from mstkit.datasets.memory_budget import Memory
from mstkit.errors import UsageError
from mstkit.registry import DATASETS

_PROBED = 8
_LABELED = re.compile(r'(.*\S)\s+(\d+)')
_LAST_WORD = re.compile(r'(.*\S)\s+(\S+)')


@DATASETS.register_module()
class TextList(FileDataset):
    """Images named in a text file (UTF-8), one per line: ``path`` or ``path label``.

    Paths may contain spaces; a label is a whole number from 0 at the end of the line, on every line or on none. Empty
    lines and lines that begin with ``#`` are ignored. The order is that of the file.

    Args:
        list_file: the text file.
        data_root: base folder of relative paths; ``''`` is the folder of the list.
        pipeline: transforms or their configs.
        metainfo: ``dict(classes=...)`` names the labels; without it they are named by their numbers.
        test_mode, lazy_init, serialize_data: as in mmengine.
        memory: whether images are kept in memory once decoded, see :class:`FileDataset`.

    Raises:
        UsageError: the list is missing, empty, or has an invalid line (given by its number), or none of its first files
            exists. Files that are missing later are treated as unreadable images.
    """

    def __init__(
        self,
        list_file: str | os.PathLike[str],
        data_root: str | os.PathLike[str] = '',
        pipeline: Sequence[Mapping[str, Any] | Callable] = (),
        metainfo: Mapping[str, Any] | None = None,
        test_mode: bool = False,
        lazy_init: bool = False,
        serialize_data: bool = True,
        memory: Memory = 'auto',
    ) -> None:
        self.list_file = os.path.expanduser(os.fspath(list_file))
        if not os.path.isfile(self.list_file):
            raise UsageError(f'the list of images {list_file} does not exist: give a text file with a path per line.')
        self.folder = os.path.expanduser(os.fspath(data_root)) or os.path.dirname(self.list_file)
        super().__init__(data_root, pipeline, metainfo, test_mode, lazy_init, serialize_data, memory)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Reads the list: dicts with ``img_path`` and, if there are labels, ``gt_label``."""
        samples: list[dict[str, Any]] = []
        first = 0
        with open(self.list_file, 'rb') as stream:
            for number, raw in enumerate(stream, start=1):
                entry = self._parse(raw, number)
                if entry is None:
                    continue
                first = first or number
                if samples and ('gt_label' in entry) != ('gt_label' in samples[0]):
                    has = 'a' if 'gt_label' in entry else 'no'
                    raise self._bad_line(number, f'has {has} label, unlike line {first}', 'label all images or none')
                samples.append(entry)
        if not samples:
            raise UsageError(f'the list {self.list_file} names no images: write one path per line.')
        self._probe(samples)
        labeled = 'gt_label' in samples[0]
        if labeled:
            self._name_classes(max(sample['gt_label'] for sample in samples))
        layout = f'in {len(self._metainfo["classes"])} classes' if labeled else 'without labels'
        print_log(f'TextList: {len(samples)} images {layout} in {self.list_file}', logger='current')
        return samples

    def _parse(self, raw: bytes, number: int) -> dict[str, Any] | None:
        try:
            line = raw.decode('utf-8-sig' if number == 1 else 'utf-8').strip()
        except UnicodeDecodeError:
            raise self._bad_line(number, 'is not UTF-8', 'save the list in that encoding') from None
        if not line or line.startswith('#'):
            return None
        if '\0' in line:
            raise self._bad_line(number, 'holds a zero byte', 'give a text file')
        labeled = _LABELED.fullmatch(line)
        if labeled:
            return dict(img_path=os.path.join(self.folder, labeled[1]), gt_label=int(labeled[2]))
        word = _LAST_WORD.fullmatch(line)
        if word and _names_image(word[1]) and not _names_image(word[2]):
            raise self._bad_line(number, f'has the label {word[2]!r}', 'give labels as whole numbers from 0 on')
        return dict(img_path=os.path.join(self.folder, line))

    def _bad_line(self, number: int, what: str, way_out: str) -> UsageError:
        return UsageError(f'line {number} of the list {self.list_file} {what}: {way_out}.')

    def _probe(self, samples: list[dict[str, Any]]) -> None:
        """Checks only the first few files, which is enough to detect a wrong data root."""
        if not any(os.path.exists(sample['img_path']) for sample in samples[:_PROBED]):
            raise UsageError(
                f'none of the first {len(samples[:_PROBED])} files of the list {self.list_file} exists, the first '
                f'would be {samples[0]["img_path"]}: give the folder that the paths are relative to as data_root.'
            )

    def _name_classes(self, largest: int) -> None:
        classes = self._metainfo.setdefault('classes', tuple(str(label) for label in range(largest + 1)))
        if largest >= len(classes):
            raise UsageError(
                f'the list {self.list_file} has the label {largest} and metainfo names {len(classes)} classes: '
                'labels count from 0; name all classes or correct the list.'
            )


def _names_image(path: str) -> bool:
    return path.lower().endswith(IMAGE_EXTENSIONS)
