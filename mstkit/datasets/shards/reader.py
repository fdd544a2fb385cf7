"""Reads samples from tar files: by random access to local plain tar files, sequentially from all others.

A sample is defined as in the ``webdataset`` library: adjacent members with the same name up to the first dot. The
headers of a local plain tar file are listed once, so that a sample can be read from its offset. Compressed files and
URLs are read sequentially by the library.
"""

from __future__ import annotations

import os
import re
import tarfile
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from mstkit.datasets.folder_scan import IMAGE_EXTENSIONS
from mstkit.datasets.image_reader import UnreadableImage
from mstkit.datasets.shards.locations import library, local_path
from mstkit.errors import UsageError

_ATTEMPTS = 3
_PAUSE = 2.0  # seconds before the second attempt, and twice that before the third
_OPEN_FILES = 32
_META = re.compile(r'__[^/]*__($|/)')  # members that the library passes over


class Sample(NamedTuple):
    """The content of a sample in a shard.

    Attributes:
        name: name of the image in the shard, or of the sample if it has no image.
        image: bytes of the image file, or None.
        label: bytes of the ``.cls`` member, or None.
    """

    name: str
    image: bytes | None
    label: bytes | None


class NotIndexable(Exception):
    """A tar file without random access."""


def _parts(sample: Mapping[str, Any]) -> tuple[str, str | None]:
    """The name of a sample's image, and its key in the sample (extension), or None without an image."""
    image = next((key for key in sample if f'.{key.rpartition(".")[2]}' in IMAGE_EXTENSIONS), None)
    return (sample['__key__'] if image is None else f'{sample["__key__"]}.{image}'), image


class LocalShard:
    """A local plain tar file with random access; only offsets are held in memory (40 bytes and the name per sample).

    Attributes:
        samples: number of samples.
        labels: number of samples with a label.
        cut_off: why the rest of the file could not be listed; '' for a complete file.

    Raises:
        NotIndexable: a compressed file, or no tar file.
        UsageError: a missing file, or a duplicate name within a sample.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        path = local_path(url)
        assert path is not None
        self.path, self.cut_off = path, ''
        self._file: BinaryIO | None = None
        places, names = [], []
        try:
            for sample in library().tariterators.group_by_keys(self._members()):
                name, image = _parts(sample)
                places.append((*sample.get(image, (-1, 0)), *sample.get('cls', (-1, 0))))
                names.append(name.encode())
        except UsageError:
            raise
        except ValueError as error:
            raise UsageError(f'the shard {url} is not as webdataset wants it: {error.args[0]}.') from error
        finally:
            self.close()
        self._places = np.array(places, np.int64).reshape(-1, 4)
        self._names = np.array(names, np.bytes_)
        self.samples = len(names)
        self.labels = int((self._places[:, 2] >= 0).sum())

    def _opened(self) -> BinaryIO:
        if self._file is None:
            try:
                self._file = open(self.path, 'rb')  # noqa: SIM115  it stays open
            except OSError as error:
                raise UsageError(
                    f'the shard {self.url} cannot be opened ({error.strerror}): copy the shards completely, or make '
                    'the index anew with tools/make_shards.py --index.'
                ) from error
        return self._file

    def _members(self) -> Iterator[dict[str, Any]]:
        """The members as the library's own iterator yields them, with (offset, size) instead of contents."""
        listed = end = 0
        try:
            with tarfile.open(fileobj=self._opened(), mode='r:') as tar:
                for member in tar:
                    end = member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                    if member.isreg() and not _META.match(member.name):
                        listed += 1
                        yield dict(fname=member.name, data=(member.offset_data, member.size), __url__=self.url)
                if self._at(end, tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    self.cut_off = 'its end mark is missing'  # which tarfile does without
        except tarfile.TarError as error:
            if not listed:
                raise NotIndexable(str(error)) from error
            self.cut_off = str(error)

    def read(self, position: int) -> Sample:
        """The sample at a position; raises UnreadableImage if the file ends before it."""
        if position >= self.samples:
            raise _too_short(self.url, position, self.samples, self.cut_off)
        image_at, image_size, label_at, label_size = self._places[position].tolist()
        contents = [
            self._at(place, size) if place >= 0 else None
            for place, size in ((image_at, image_size), (label_at, label_size))
        ]
        return Sample(self._names[position].decode(), *contents)

    def _at(self, place: int, size: int) -> bytes:
        file = self._opened()
        file.seek(place)
        return file.read(size)

    def close(self) -> None:
        """Closes the file until the next read; offsets are kept."""
        if self._file is not None:
            self._file.close()
            self._file = None


class StreamedShard:
    """A shard that is read sequentially: fast for increasing positions, correct for any order.

    Skipped samples are kept up to ``read_ahead`` positions behind the last one read; to read an earlier sample, the
    shard is opened again from its start.

    Args:
        url: a path or URL that the library can open.
        read_ahead: number of positions for which skipped samples are kept.
    """

    def __init__(self, url: str, read_ahead: int = 0) -> None:
        self.url, self.read_ahead = url, read_ahead
        self.opened = 0
        self._held: OrderedDict[int, Sample] = OrderedDict()
        self._stream: Iterator[dict[str, Any]] | None = None
        self._next = 0
        self._end: tuple[int, str] | None = None  # where the shard was found to end, and why

    def count(self) -> tuple[int, int]:
        """Numbers of samples and of labels, by reading the whole shard; UsageError if it cannot be read."""
        samples = labels = 0
        try:
            for sample in self._open():
                samples += 1
                labels += 'cls' in sample
        except Exception as error:
            raise UsageError(f'the shard {self.url} cannot be read: {_in_words(error)}.') from error
        return samples, labels

    def read(self, position: int) -> Sample:
        """The sample at a position.

        Raises:
            UnreadableImage: the shard ends, or reading fails repeatedly, before this position.
            UsageError: no sample of the shard can be read.
        """
        if self._end is not None and position >= self._end[0]:
            raise _too_short(self.url, position, *self._end)
        failure: Exception | None = None
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_PAUSE * attempt)
            try:
                return self._advance_to(position)
            except UnreadableImage:
                raise
            except Exception as error:  # of the library, of tarfile, of the command behind a URL
                failure, reached = error, self._next
                self.close()
        assert failure is not None
        if reached == 0:
            raise UsageError(
                f'the shard {self.url} cannot be read in {_ATTEMPTS} attempts ({_in_words(failure)}): check that it is '
                'there; a training goes on with --resume.'
            ) from failure
        self._end = reached, _in_words(failure)
        raise _too_short(self.url, position, *self._end) from failure

    def _advance_to(self, position: int) -> Sample:
        if position in self._held:
            return self._held.pop(position)
        if self._stream is None or position < self._next:
            self.close()
            self._stream = iter(self._open())
        while True:
            found = next(self._stream, None)
            if found is None:
                self._end = self._next, ''
                self.close()
                raise _too_short(self.url, position, *self._end)
            name, image = _parts(found)
            sample = Sample(name, found[image] if image else None, found.get('cls'))
            self._next += 1
            if self._next > position:
                return sample
            if self._next + self.read_ahead > position:
                self._held[self._next - 1] = sample
            while self._held and next(iter(self._held)) < self._next - self.read_ahead:
                self._held.popitem(last=False)

    def _open(self) -> Iterator[dict[str, Any]]:
        self.opened += 1
        # An absolute path, which the library cannot mistake for a command or standard input.
        path = local_path(self.url)
        return library().tarfile_samples([dict(url=self.url if path is None else os.path.abspath(path))])

    def close(self) -> None:
        """Closes the stream and drops kept samples; the shard can be read again."""
        self._stream = None  # the library closes the pipe behind it
        self._held.clear()
        self._next = 0


class ShardReader:
    """Reads samples of many shards, keeping the most recently used ones open; safe to fork and to pickle.

    Args:
        urls: paths or URLs of the shards.
        read_ahead: see :class:`StreamedShard`.
        keep: maximum number of open streams.
    """

    def __init__(self, urls: Sequence[str], read_ahead: int = 0, keep: int = 4) -> None:
        self.urls, self.read_ahead, self.keep = urls, read_ahead, keep
        self._forget()

    def _forget(self) -> None:
        self._owner = os.getpid()
        self._shards: dict[int, LocalShard | StreamedShard] = {}
        self._recent: OrderedDict[int, LocalShard | StreamedShard] = OrderedDict()

    def read(self, shard: int, position: int) -> Sample:
        """A sample; see the shards' own ``read``."""
        if os.getpid() != self._owner:
            self._forget()  # a forked worker must not share file offsets with its parent
        found = self._shards.get(shard)
        if found is None:
            found = self._shards[shard] = self._open(self.urls[shard])
        self._recent[shard] = found
        self._recent.move_to_end(shard)
        limit = self.keep if isinstance(found, StreamedShard) else max(self.keep, _OPEN_FILES)
        if len(self._recent) > limit:
            self._recent.popitem(last=False)[1].close()
        return found.read(position)

    def _open(self, url: str) -> LocalShard | StreamedShard:
        if local_path(url) is not None:
            try:
                return LocalShard(url)
            except NotIndexable:
                pass
        return StreamedShard(url, self.read_ahead)

    def __getstate__(self) -> dict[str, Any]:
        return dict(urls=self.urls, read_ahead=self.read_ahead, keep=self.keep)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def _too_short(url: str, position: int, samples: int, reason: str) -> UnreadableImage:
    why = f'the shard {"breaks off" if reason else "ends"} after {samples} samples{f" ({reason})" if reason else ""}'
    return UnreadableImage(f'{url}[{position}]', why)


def _in_words(error: Exception) -> str:
    return ' '.join(str(error.args[0] if error.args else error).split()) or type(error).__name__
