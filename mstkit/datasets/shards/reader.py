"""Samples out of tar files: at once where the file can be addressed, in passing where it has to be read through.

What a sample is, is the ``webdataset`` library's to say: neighboring members that share their name up to the first
dot. A plain tar file on this machine is addressed: its headers are listed once, the library groups them, and a sample
is read from its place. A compressed one, and any URL that the library opens, is read from the front by the library.
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
    """A sample as it lies in a shard.

    Attributes:
        name: the image's name in the shard, or the sample's where it has no image.
        image: the bytes of the image file; None where the sample holds none.
        label: the bytes of its ``.cls``; None where it has none.
    """

    name: str
    image: bytes | None
    label: bytes | None


class NotIndexable(Exception):
    """A tar file that can only be read through."""


def _parts(sample: Mapping[str, Any]) -> tuple[str, str | None]:
    """The name of a sample's image, and the extension that it has in the sample, if there is one."""
    image = next((key for key in sample if f'.{key.rpartition(".")[2]}' in IMAGE_EXTENSIONS), None)
    return (sample['__key__'] if image is None else f'{sample["__key__"]}.{image}'), image


class LocalShard:
    """A plain tar file: any sample at any time, with nothing but the places in memory (40 bytes and the name each).

    Attributes:
        samples: how many there are.
        labels: how many have a label.
        cut_off: why the rest of the file could not be listed; '' for a whole file.

    Raises:
        NotIndexable: it is compressed, or no tar file at all.
        UsageError: it is missing, or a name comes twice in a sample.
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
        """What the library's own iterator gives, with places instead of contents."""
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
        """The sample at a position; raises UnreadableImage where the file ends before it."""
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
        """Closes the file until it is needed again; the places stay."""
        if self._file is not None:
            self._file.close()
            self._file = None


class StreamedShard:
    """A shard that is read from its front: cheap where positions rise, and right in any order.

    What is passed over is held for later, up to ``read_ahead`` positions behind the furthest one read; a sample that
    is no longer there makes the shard be opened anew.

    Args:
        url: whatever the library opens.
        read_ahead: how far behind a sample can still be asked for without being read again.
    """

    def __init__(self, url: str, read_ahead: int = 0) -> None:
        self.url, self.read_ahead = url, read_ahead
        self.opened = 0
        self._held: OrderedDict[int, Sample] = OrderedDict()
        self._stream: Iterator[dict[str, Any]] | None = None
        self._next = 0
        self._end: tuple[int, str] | None = None  # where the shard was found to end, and why

    def count(self) -> tuple[int, int]:
        """All samples, and those with a label, by reading everything; UsageError where it cannot be read."""
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
            UnreadableImage: the shard ends, or breaks off again and again, before it.
            UsageError: not even the first sample can be read.
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
        # The library takes a path for a command where it looks like one, or for standard input; not an absolute one.
        path = local_path(self.url)
        return library().tarfile_samples([dict(url=self.url if path is None else os.path.abspath(path))])

    def close(self) -> None:
        """Forgets everything; the shard can be read again."""
        self._stream = None  # the library closes the pipe behind it
        self._held.clear()
        self._next = 0


class ShardReader:
    """The shards of a process, of which the last used ones are open; safe to fork and to pickle.

    Args:
        urls: of the shards.
        read_ahead: see :class:`StreamedShard`.
        keep: how many streams stay open.
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
            self._forget()  # a forked worker must not move the places in its parent's files
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
