"""A map-style data set of the images in tar shards.

It is map-style instead of a stream, because reproducibility depends on the sample index: it seeds the views of
MultiCrop, determines which process reads which sample and where a resumed run continues, and k-NN, panels and the
counting of unreadable files access samples by index. Only the order of reading is adapted to tar files:
:class:`ShardSampler` goes through whole shards, different ones in each process and worker, and :class:`ShardReader`
reads them mostly sequentially.

* Plain tar files on the local disk have random access (headers are listed once): no sample is held in memory, any
  sampler works, and ShardSampler only avoids disk seeks.
* URLs and compressed files are read sequentially by the ``webdataset`` library. In ShardSampler's order each worker
  opens each of its shards once and holds at most as many samples as the shuffle buffer; any other order works, too, but
  is slow.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from mmengine.dataset import force_full_init
from mmengine.logging import print_log

from mstkit.datasets.file_dataset import FileDataset
from mstkit.datasets.image_reader import UnreadableImage
from mstkit.datasets.sampling import SampleKey
from mstkit.datasets.shards.index import INDEX, ShardIndex, count_samples, read_index
from mstkit.datasets.shards.locations import expand, is_url, join, last_name, library
from mstkit.datasets.shards.reader import ShardReader
from mstkit.datasets.splits import find_split
from mstkit.errors import UsageError
from mstkit.registry import DATASETS

_NEAR_DRAWS = 8


@DATASETS.register_module()
class ShardDataset(FileDataset):
    """Images in tar shards of the ``webdataset`` kind: members ``NAME.jpg`` and, for labels, ``NAME.cls``.

    Samples have ``img_bytes``, ``img_path`` (``SHARD/MEMBER``, for messages) and, if they are labeled, ``gt_label``. A
    ``.cls`` contains a whole number from 0; other members are ignored. A sample that is unreadable, or missing in a
    truncated shard, is replaced as in :class:`FileDataset`, preferably by one of the same shard.

    Without ``shards``, the folder is ``data_root/split`` or, for ``'train'``, ``data_root``, as in ``ImageFolder``; its
    ``index.json`` names the shards (``tools/make_shards.py`` writes both), or else all ``*.tar`` in it are counted.

    Args:
        data_root: a folder, or a URL that the library opens (``https://``, ``gs://``, ``pipe:`` ...).
        split: the part of the data set; not used where ``shards`` is given.
        shards: shards by name: paths, URLs and brace patterns (``train-{000000..000099}.tar``) below ``data_root``.
        index: file with the number of samples per shard; without it samples are counted, which needs local shards. It
            lists the shards' file names without folder, so it has to be in their folder, unless ``shards`` gives their
            paths.
        pipeline: transforms or their configs.
        labeled: ``'auto'`` for labels where the shards have them, ``False`` for none, ``True`` to refuse shards
            without.
        metainfo: ``dict(classes=...)`` names the labels; wins over the index.
        test_mode, lazy_init: as in mmengine.

    Raises:
        UsageError: ``webdataset`` is not installed, or shards, index or labels are missing.
    """

    reads_urls: ClassVar[bool] = True

    def __init__(
        self,
        data_root: str | os.PathLike[str] = '',
        split: str = 'train',
        shards: str | Sequence[str] | None = None,
        index: str | None = None,
        pipeline: Sequence[Mapping[str, Any] | Callable] = (),
        labeled: bool | str = 'auto',
        metainfo: Mapping[str, Any] | None = None,
        test_mode: bool = False,
        lazy_init: bool = False,
    ) -> None:
        library()  # raises here, instead of in a worker, if it is missing
        if labeled not in ('auto', True, False):
            raise UsageError(f"ShardDataset.labeled is {labeled!r}: give 'auto', True or False.")
        self._fully_initialized = False
        self.split, self.shards, self.index_file, self.labeled = split, shards, index, labeled
        # Shards are for sets that are larger than memory, and sizes of images show only when they are read.
        super().__init__(data_root, pipeline, metainfo, test_mode, lazy_init, serialize_data=False, memory=False)

    def full_init(self) -> None:
        """Finds the shards and how many samples they hold; no sample is read."""
        if self._fully_initialized:
            return
        self.index = self._find_index()
        self.firsts = self.index.firsts
        if self.labeled == 'auto':
            self.labeled = self.index.labeled
        elif self.labeled and not self.index.labeled:
            raise UsageError(f'the shards of {self._name} have no labels (.cls): make them from a folder with classes.')
        if self.labeled and self.index.classes is not None:
            self._metainfo.setdefault('classes', self.index.classes)
        self.reader = ShardReader(self.index.urls)
        self._fully_initialized = True
        layout = 'with labels' if self.labeled else 'without labels'
        print_log(
            f'ShardDataset: {len(self)} images {layout} in {len(self.index.urls)} shards of {self._name}',
            logger='current',
        )

    def _join_prefix(self) -> None:
        """Nothing: mmengine would look for a storage backend of its own behind a URL."""

    @property
    def _name(self) -> str:
        return self.data_root or os.path.dirname(self.index.urls[0]) or 'this folder'

    def _find_index(self) -> ShardIndex:
        if self.index_file is not None:
            known = read_index(join(self.data_root, self.index_file))
            return known if self.shards is None else _chosen(known, expand(self.shards, self.data_root))
        if self.shards is not None:
            return _counted(expand(self.shards, self.data_root))
        if is_url(self.data_root):
            return self._index_at_url()
        folder = find_split(self.data_root, self.split)
        if os.path.isfile(path := os.path.join(folder, INDEX)):
            return read_index(path)
        return _counted(expand('*.tar', folder))

    def _index_at_url(self) -> ShardIndex:
        tried = [join(self.data_root, f'{self.split}/{INDEX}' if self.split else INDEX)]
        if self.split == 'train':
            tried.append(join(self.data_root, INDEX))
        for url in tried:
            try:
                return read_index(url)
            except UsageError as error:
                reason = error
        raise UsageError(
            f'no index of shards at {" or ".join(tried)} ({reason}) Upload {INDEX}, or give shards and index.'
        ) from None

    def plan_reading(self, read_ahead: int, streams: int) -> None:
        """Sets up reading for nearly sequential access; called by :class:`ShardSampler`.

        Args:
            read_ahead: maximum distance by which a sample may be requested after later ones of its stream.
            streams: number of sequential streams that one process reads in parallel.
        """
        # A stream can have several open shards, since samples of earlier shards may still be requested.
        typical = max(1, int(np.median(self.index.counts)))
        self.reader = ShardReader(self.index.urls, read_ahead, keep=streams * (read_ahead // typical + 2))

    @force_full_init
    def __len__(self) -> int:
        return int(self.firsts[-1])

    @force_full_init
    def sample_names(self) -> list[str]:
        """Shard names and sizes, to identify the data set without opening a shard."""
        return [
            f'{os.path.basename(url)} {count}' for url, count in zip(self.index.urls, self.index.counts, strict=True)
        ]

    @force_full_init
    def get_data_info(self, idx: int) -> dict[str, Any]:
        """The sample before the pipeline.

        Raises:
            UnreadableImage: the sample is missing in the shard, or has no image.
            UsageError: the shard cannot be opened, or the label is invalid.
        """
        number = int(idx) if idx >= 0 else len(self) + int(idx)
        shard = self.shard_of(number)
        sample = self.reader.read(shard, number - int(self.firsts[shard]))
        path = f'{self.index.urls[shard]}/{sample.name}'
        if sample.image is None:
            raise UnreadableImage(path, 'the sample holds no image')
        info = dict(img_bytes=sample.image, img_path=path, sample_idx=idx)
        if self.labeled:
            info['gt_label'] = self._label(sample.label, path)
        return info

    def shard_of(self, number: int) -> int:
        """The index of the shard that contains a sample."""
        return int(np.searchsorted(self.firsts, number, side='right')) - 1

    def _label(self, content: bytes | None, path: str) -> int:
        text = (content or b'').decode('ascii', 'replace').strip()
        classes = self._metainfo.get('classes')
        if not text.isdigit() or (classes is not None and int(text) >= len(classes)):
            limit = 'from 0 on' if classes is None else f'from 0 to {len(classes) - 1}'
            raise UsageError(
                f'the label (.cls) of {path} is {text!r}, not a whole number {limit}: correct the shards, or train '
                'with labeled=False.'
            )
        return int(text)

    def _candidates(self, key: SampleKey) -> Iterator[int]:
        """The sample, then random ones of its shard, which is already open, then random ones of all shards."""
        yield int(key)
        shard = self.shard_of(int(key))
        generator = key.generator('replacement')
        for _ in range(_NEAR_DRAWS):
            yield int(generator.integers(self.firsts[shard], self.firsts[shard + 1]))
        yield from list(super()._candidates(key))[1:]


def _counted(urls: list[str]) -> ShardIndex:
    if elsewhere := [url for url in urls if is_url(url) and not url.startswith('file:')]:
        raise UsageError(
            f'the number of samples in {elsewhere[0]} is unknown before it is read: make an index once, tools/'
            f"make_shards.py --index '{elsewhere[0]}' --out FILE, and give it as ShardDataset.index."
        )
    return count_samples(urls)


def _chosen(index: ShardIndex, urls: list[str]) -> ShardIndex:
    """Restricts an index to the given shards, which are matched by file name."""
    counts = {last_name(url): count for url, count in zip(index.urls, index.counts, strict=True)}
    names = [last_name(url) for url in urls]
    unknown = next((url for url, name in zip(urls, names, strict=True) if name not in counts), None)
    if unknown is not None:
        raise UsageError(f'the index does not contain the shard {unknown}: make it anew, or correct the pattern.')
    return ShardIndex(tuple(urls), tuple(counts[name] for name in names), index.classes, index.labeled)
