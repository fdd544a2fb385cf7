"""Writes the images of a data set into tar shards, shuffled, with an index."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mstkit.datasets.file_dataset import FileDataset
from mstkit.datasets.image_folder import ImageFolder
from mstkit.datasets.image_reader import UnreadableImage, read_image
from mstkit.datasets.sampling import NO_SAMPLE, bit_generator
from mstkit.datasets.shards.index import INDEX, ShardIndex, write_index
from mstkit.datasets.shards.locations import library
from mstkit.errors import UsageError
from mstkit.utils.checks import check_count, check_number
from mstkit.utils.files import write_atomically
from mstkit.utils.progress_bar import track

_BLOCK = 512  # tar's unit: a header is one block, contents are filled up to whole ones
_LONGEST_NAME = 60


@dataclass
class Written:
    """The result of :func:`write_shards`.

    Attributes:
        index: of the shards.
        size: bytes of all shards.
        left_out: images that could not be read, with the reason.
    """

    index: ShardIndex
    size: int
    left_out: list[str]


def write_shards(
    dataset: FileDataset,
    out: str | os.PathLike[str],
    max_bytes: float = 256e6,
    max_samples: int | None = None,
    seed: int | None = 0,
    prefix: str = 'shard',
    verify: bool = False,
) -> Written:
    """Writes shards ``PREFIX-000000.tar`` and so on, and at the end ``index.json``.

    Image files are stored unchanged, with their label as ``.cls``. Equal inputs give byte-identical shards.

    Args:
        dataset: of image files.
        out: a folder that is empty or does not exist.
        max_bytes: maximum size of a shard with more than one image.
        max_samples: maximum number of samples of a shard.
        seed: seed of the order of samples over all shards; None keeps the order of the data set.
        prefix: of the shards' names.
        verify: decode every image, and omit unreadable ones.

    Raises:
        UsageError: a folder that is not empty, a number out of range, an image that cannot be opened, or no images.
    """
    check_number('the size of a shard', max_bytes, 1)
    if max_samples is not None:
        check_count('the samples of a shard', max_samples, 1)
    if not re.fullmatch(r'[\w-]+', prefix):
        raise UsageError(f'the prefix of the shards is {prefix!r}: give letters, digits, - and _ only.')
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        hint = '' if (folder / INDEX).exists() else f' (without {INDEX}: of a run that was interrupted?)'
        raise UsageError(f'{folder} is there already and not empty{hint}: remove it, or give another --out.')
    library()
    folder.mkdir(parents=True, exist_ok=True)
    left_out: list[str] = []
    samples = _Samples(dataset, _order(len(dataset), seed), verify, left_out)
    urls: list[str] = []
    counts: list[int] = []
    size = 0
    while samples.waiting:
        path = folder / f'{prefix}-{len(urls):06d}.tar'
        write_atomically(path, lambda file: counts.append(_fill(file, samples, max_bytes, max_samples)))
        urls.append(str(path))
        size += path.stat().st_size
    if not urls:
        raise UsageError(f'none of the {len(dataset)} images can be read, the first is {left_out[0]}.')
    classes = dataset.metainfo.get('classes') if samples.labeled else None
    index = ShardIndex(tuple(urls), tuple(counts), None if classes is None else tuple(classes), samples.labeled)
    write_index(folder / INDEX, index)
    return Written(index, size, left_out)


def _order(count: int, seed: int | None) -> np.ndarray:
    if seed is None:
        return np.arange(count)
    return np.argsort(bit_generator(seed, 0, NO_SAMPLE, 'writing').random_raw(count), kind='stable')


class _Samples:
    """The samples to be written, with a look at the next one, so that a shard can be closed before it."""

    def __init__(self, dataset: FileDataset, order: np.ndarray, verify: bool, left_out: list[str]) -> None:
        self.labeled = 'gt_label' in dataset.get_data_info(0)
        self._verify, self._left_out, self._root = verify, left_out, _common_folder(dataset)
        self._stream = self._read(dataset, order)
        self.waiting: dict[str, Any] | None = next(self._stream, None)

    def take(self) -> dict[str, Any]:
        taken, self.waiting = self.waiting, next(self._stream, None)
        assert taken is not None
        return taken

    def _read(self, dataset: FileDataset, order: np.ndarray) -> Iterator[dict[str, Any]]:
        written = 0
        for number in track(order.tolist(), len(order), 'writing shards'):
            info = dataset.get_data_info(number)
            path = info['img_path']
            try:
                content = Path(path).read_bytes()
                if self._verify:
                    read_image(content, path)
            except UnreadableImage as error:
                self._left_out.append(f'{path} ({error.reason})')
                continue
            except OSError as error:
                if not self._verify:
                    raise UsageError(
                        f'{path} cannot be opened ({error.strerror}): mend it, or leave out such images with --verify.'
                    ) from error
                self._left_out.append(f'{path} ({error.strerror})')
                continue
            yield self._sample(written, path, content, info.get('gt_label'))
            written += 1

    def _sample(self, number: int, path: str, content: bytes, label: int | None) -> dict[str, Any]:
        stem, extension = os.path.splitext(os.path.relpath(path, self._root))
        # The library takes everything after the first dot as extension. The number makes the name unique.
        name = re.sub(r'[^A-Za-z0-9-]+', '_', stem)[-_LONGEST_NAME:]
        sample: dict[str, Any] = {'__key__': f'{number:09d}_{name}', extension[1:].lower(): content}
        if label is not None:
            sample['cls'] = str(label).encode()
        return sample


def _common_folder(dataset: FileDataset) -> str:
    return (dataset.folder if isinstance(dataset, ImageFolder) else '') or dataset.data_root or '.'


def _size_in_tar(sample: dict[str, Any]) -> int:
    contents = [content for key, content in sample.items() if key != '__key__']
    return sum(_BLOCK + -(-len(content) // _BLOCK) * _BLOCK for content in contents)


def _fill(file: BinaryIO, samples: _Samples, max_bytes: float, max_samples: int | None) -> int:
    """Writes one shard and returns the number of its samples."""
    count = size = 0
    # A fixed time and owner, so that the same images give the same bytes; a time with fractions would double headers.
    with library().TarWriter(file, encoder=False, mtime=0, user='', group='') as tar:
        while samples.waiting and (max_samples is None or count < max_samples):
            size += _size_in_tar(samples.waiting)
            if count and size > max_bytes:
                break
            tar.write(samples.take())
            count += 1
    return count
