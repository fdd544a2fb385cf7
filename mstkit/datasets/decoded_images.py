"""Decoded images in memory that the processes of a data loader share: each file is decoded once, not in every epoch.

The memory is anonymous and mapped by all workers, however they are started (fork, spawn, forkserver). It is not a file
in ``/dev/shm``, whose size is limited in containers. Pages are taken when an image is first read and kept, by whichever
process reads it; before that the store only knows the size of each image, from the header of its file.
"""

from __future__ import annotations

import hashlib
import mmap
import multiprocessing.context
import os
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import reduction
from typing import Any, NamedTuple

import numpy as np
from mmengine.dist import is_main_process

from mstkit.datasets.image_head import read_head
from mstkit.datasets.image_reader import UnreadableImage, read_image
from mstkit.utils.progress_bar import track

_READERS, _CHUNK = 8, 128  # headers read at the same time, which hides the latency of network disks, and at a time
PROBED = 512  # images by whose headers it is seen whether all can fit, before all headers are read
_CHANNELS = 3
_stores: weakref.WeakSet[DecodedImages] = weakref.WeakSet()  # of this process

MayShrink = Callable[[int, int], bool]


class Listing(NamedTuple):
    """What is known of images before any is decoded, in the order of ``names``.

    Attributes:
        names: 64-bit digests of the paths, each once, sorted; (N,) uint64.
        stamps: size and time of each file as one number, 0 without a file; (N,) uint64.
        heights, widths: of the images that are to be kept, in pixels as stored; 0 for those that stay on file; int64.
    """

    names: np.ndarray
    stamps: np.ndarray
    heights: np.ndarray
    widths: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """Bytes of each decoded image, (N,) int64."""
        return self.heights * self.widths * _CHANNELS

    def rows(self, names: np.ndarray) -> np.ndarray | None:
        """The rows of the given names; None if one is missing."""
        rows = np.searchsorted(self.names, names)
        known = len(self.names) > 0 and (self.names[np.minimum(rows, len(self.names) - 1)] == names).all()
        return rows if known else None


class DecodedImages:
    """A store of decoded images, filled as they are read.

    Args:
        listing: the images and their sizes.
        file: an open file of a store in another process, whose memory this one shares; None for memory of its own.

    Attributes:
        listing: as above.
        size: bytes of all images together.
    """

    def __init__(self, listing: Listing, file: int | None = None) -> None:
        file = _anonymous_file(_bytes_of(listing)) if file is None else file
        self.listing, self._file = listing, file
        self._closed = weakref.finalize(self, os.close, file)
        self.size = int(listing.sizes.sum())
        count = len(listing.names)
        self._starts = np.concatenate([[0], np.cumsum(listing.sizes)])
        memory = mmap.mmap(file, _bytes_of(listing))
        # Height and width of each image as it is upright, in one word that is written after its pixels; 0 before.
        self._shapes = np.frombuffer(memory, np.uint64, count)
        self._pixels = np.frombuffer(memory, np.uint8, self.size, offset=8 * count)
        _stores.add(self)

    def read(self, path: str) -> np.ndarray | None:
        """The image of a file, decoded now or before; a copy that the caller may change.

        Two processes may decode the same image at the same time: both then write the same bytes.

        Returns:
            (H, W, 3) uint8 RGB; None if the image is not one of those that are kept.

        Raises:
            UnreadableImage: see :func:`mstkit.datasets.image_reader.read_image`.
        """
        rows = self.listing.rows(np.array([_digest(path)], np.uint64))
        if rows is None:
            return None
        row = int(rows[0])
        place = slice(self._starts[row], self._starts[row + 1])
        if place.start == place.stop:
            return None
        shape = int(self._shapes[row])
        if shape:
            return self._pixels[place].reshape(shape >> 32, shape & 0xFFFFFFFF, _CHANNELS).copy()
        image = read_image(path)
        # A file whose header does not say how large it is, or that was changed since, is read as if it were not kept.
        if image.size == place.stop - place.start:
            self._pixels[place] = image.reshape(-1)
            self._shapes[row] = image.shape[0] << 32 | image.shape[1]
        return image

    def filled(self) -> tuple[int, int]:
        """How many images have been decoded so far, and their bytes."""
        there = self._shapes != 0
        return int(there.sum()), int(self.listing.sizes[there].sum())

    def __deepcopy__(self, memo: dict[int, Any]) -> DecodedImages:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # Only a process that is being started can be given the memory; any other copy of a data set reads files.
        if multiprocessing.context.get_spawning_popen() is None:
            return _nothing, ()
        return _reopened, (self.listing, reduction.DupFd(self._file))


def promised() -> int:
    """Bytes that stores of this process will take when they are filled, and have not yet taken."""
    return sum(store.size - store.filled()[1] for store in _stores)


def shared_store(paths: Sequence[str], may_shrink: MayShrink | None) -> DecodedImages | None:
    """A store of this process that holds all these files, unchanged since; None if there is none.

    Args:
        paths: of the images.
        may_shrink: see :func:`listed`.
    """
    some = _digests(_spread(paths))
    if all(store.listing.rows(some) is None for store in list(_stores)):
        return None
    paths = list(paths)
    names, first = np.unique(_digests(paths), return_index=True)
    stamps = np.array([_stamp(paths[index]) for index in first], np.uint64)
    for store in list(_stores):
        listing = store.listing
        rows = listing.rows(names)
        if rows is None or (listing.stamps[rows] != stamps).any():
            continue
        if not _shrinking(listing.heights[rows], listing.widths[rows], may_shrink).any():
            return store
    return None


def listed(paths: Sequence[str], may_shrink: MayShrink | None = None) -> Listing:
    """Reads the headers of image files. Files that cannot be read are listed without a size.

    Args:
        paths: of the images; may name one twice.
        may_shrink: of height and width in pixels, whether such an image may be read at a reduced size: it then stays on
            file, because it is not the whole image that is needed. None where all are read whole.
    """
    paths = list(paths)
    names, first = np.unique(_digests(paths), return_index=True)
    facts = np.array(list(_facts([paths[index] for index in first])), np.uint64).reshape(-1, 3)
    heights, widths = facts[:, 1].astype(np.int64), facts[:, 2].astype(np.int64)
    stays = _shrinking(heights, widths, may_shrink)
    heights[stays] = widths[stays] = 0
    return Listing(names, facts[:, 0], heights, widths)


def _shrinking(heights: np.ndarray, widths: np.ndarray, may_shrink: MayShrink | None) -> np.ndarray:
    """Which of the images that have a size may be read at a reduced one, (N,) bool."""
    pairs = zip(heights.tolist(), widths.tolist(), strict=True)
    return np.array([may_shrink is not None and h > 0 and may_shrink(h, w) for h, w in pairs], bool)


def about_size(paths: Sequence[str], may_shrink: MayShrink | None = None) -> float:
    """Bytes that the decoded images take, estimated by the headers of some that are spread evenly over all."""
    return float(listed(_spread(paths), may_shrink).sizes.mean()) * len(paths)


def _spread(paths: Sequence[str]) -> list[str]:
    """At most :data:`PROBED` of the paths, spread evenly over all."""
    count = min(PROBED, len(paths))
    return [paths[index * len(paths) // count] for index in range(count)]


def _facts(paths: Sequence[str]) -> Iterator[tuple[int, int, int]]:
    """Stamp, height and width of each file."""
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    with warnings.catch_warnings(), ThreadPoolExecutor(_READERS) as pool:
        warnings.simplefilter('ignore')  # Pillow warns of odd metadata, which do not matter here
        found = pool.map(lambda chunk: [_fact(path) for path in chunk], chunks)
        for facts in track(found, len(chunks), 'sizes of images', is_main_process()):
            yield from facts


def _fact(path: str) -> tuple[int, int, int]:
    try:
        head = read_head(path)
    except UnreadableImage:
        return _stamp(path), 0, 0
    return _stamp(path), head.height, head.width


def _stamp(path: str) -> int:
    try:
        facts = os.stat(path)
    except OSError:
        return 0
    return _digest(f'{facts.st_size} {facts.st_mtime_ns}')


def _digests(paths: Iterable[str]) -> np.ndarray:
    return np.array([_digest(path) for path in paths], np.uint64)


def _digest(text: str) -> int:
    data = text.encode(errors='surrogateescape')
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), 'little')


def _bytes_of(listing: Listing) -> int:
    return max(1, int(listing.sizes.sum()) + 8 * len(listing.names))


def _anonymous_file(size: int) -> int:
    """An open file without a name and without pages; in memory where the system has such files (Linux)."""
    if hasattr(os, 'memfd_create'):  # not on other systems
        file = os.memfd_create('decoded images')
    else:
        with tempfile.TemporaryFile() as stream:
            file = os.dup(stream.fileno())
    os.truncate(file, size)
    return file


def _reopened(listing: Listing, file: Any) -> DecodedImages:
    """The store in a process that was started with it; see :meth:`DecodedImages.__reduce__`."""
    return DecodedImages(listing, file.detach())


def _nothing() -> None:
    """What a pickled store is elsewhere."""
