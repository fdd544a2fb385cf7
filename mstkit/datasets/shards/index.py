"""The index of shards, ``index.json`` next to them: number of samples per shard, and class names.

The length of an epoch and each process's part of it have to be known before the first sample is read.
``tools/make_shards.py`` writes the index with the shards, or for existing shards (``--index``). Without an index, local
shards are counted when the data set is built, from their headers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mstkit.datasets.shards.locations import beside, fetch, is_url, last_name, local_path
from mstkit.datasets.shards.reader import LocalShard, NotIndexable, StreamedShard
from mstkit.errors import UsageError
from mstkit.utils.files import write_atomically
from mstkit.utils.progress_bar import track

INDEX = 'index.json'
_FORMAT = 'mstkit shards 1'


@dataclass(frozen=True)
class ShardIndex:
    """Shards and their numbers of samples.

    Attributes:
        urls: paths or URLs of the shards.
        counts: number of samples of each shard.
        classes: class names in the order of labels; None without labels, or if the names are unknown.
        labeled: whether the samples have labels.
    """

    urls: tuple[str, ...]
    counts: tuple[int, ...]
    classes: tuple[str, ...] | None = None
    labeled: bool = False

    @property
    def firsts(self) -> np.ndarray:
        """Index of each shard's first sample, followed by the total number of samples; (shards + 1,) int64."""
        return np.concatenate(([0], np.cumsum(self.counts, dtype=np.int64)))


def write_index(path: str | os.PathLike[str], index: ShardIndex) -> None:
    """Writes an index atomically, with the file names of the shards without their folder.

    Raises:
        UsageError: two shards have the same name, or one has a name that is not allowed in an index.
    """
    names = [last_name(url) for url in index.urls]
    if len(set(names)) < len(names):
        first = next(name for name in names if names.count(name) > 1)
        raise UsageError(f'two shards are called {first!r}: names in an index must differ, so rename one of them.')
    try:
        for name in names:
            beside('', name)
    except ValueError as error:
        raise UsageError(f'no index can be made of these shards: {error}. Rename that file.') from None
    shards = [dict(name=name, samples=count) for name, count in zip(names, index.counts, strict=True)]
    content: dict[str, Any] = dict(
        format=_FORMAT,
        samples=sum(index.counts),
        labeled=index.labeled,
        classes=None if index.classes is None else list(index.classes),
        shards=shards,
    )
    write_atomically(path, (json.dumps(content, indent=1, ensure_ascii=False) + '\n').encode())


def read_index(url: str) -> ShardIndex:
    """Reads an index.

    Args:
        url: path or URL of the index; the shards are in the same folder.

    Raises:
        UsageError: it cannot be read, is no index, or names a shard in another folder.
    """
    content = fetch(url)
    folder = url.rpartition('/')[0] if is_url(url) else os.path.dirname(os.path.expanduser(url))
    try:
        data = json.loads(content)
        if data['format'] != _FORMAT:
            raise ValueError(f'its format is {data["format"]!r}')
        names = [beside(folder, shard['name']) for shard in data['shards']]
        counts = [int(shard['samples']) for shard in data['shards']]
        classes = None if data['classes'] is None else tuple(str(name) for name in data['classes'])
        if not names or min(counts) < 0 or not sum(counts):
            raise ValueError('it names no samples')
        return ShardIndex(
            tuple(names), tuple(counts), classes, bool(data['labelled' if 'labelled' in data else 'labeled'])
        )
    except (ValueError, KeyError, TypeError) as error:
        reason = error if isinstance(error, ValueError) else f'{type(error).__name__}: {error}'
        raise UsageError(
            f'{url} is not an index of shards that can be used ({reason}): make one with tools/make_shards.py --index '
            'SHARDS --out FILE.'
        ) from error


def count_samples(urls: Sequence[str]) -> ShardIndex:
    """Makes an index of shards: from the headers of local plain tar files, by reading all data of other shards.

    Raises:
        UsageError: a shard is missing, cut off, or no tar file; samples with and without labels.
    """
    counts, labeled = [], set()
    for url in track(urls, len(urls), 'counting shards'):
        path = local_path(url)
        if path is not None and not os.path.isfile(path):
            raise UsageError(f'the shard {url} does not exist: correct the pattern, or copy the shards completely.')
        try:
            found = LocalShard(url) if path is not None else None
        except NotIndexable:
            found = None
        if found is not None:
            if found.cut_off:
                raise UsageError(f'the shard {url} is cut off ({found.cut_off}): copy it again, or leave it out.')
            count, labels = found.samples, found.labels
        else:
            count, labels = StreamedShard(url).count()
        if labels not in (0, count):
            raise UsageError(f'of the {count} samples in {url}, {labels} have a label (.cls): label all or none.')
        if count:
            labeled.add(labels > 0)
        counts.append(count)
    if not sum(counts):
        raise UsageError(f'the {len(urls)} shards hold no samples, the first is {urls[0]}: give tar files of images.')
    if len(labeled) > 1:
        raise UsageError('some of the shards have labels (.cls) and others none: label all or none.')
    return ShardIndex(tuple(urls), tuple(counts), None, True in labeled)
