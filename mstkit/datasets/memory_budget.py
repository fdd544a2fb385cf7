"""Decides whether the images of a data set are kept in memory decoded, by what they take and what is free."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mmengine.logging import print_log

from mstkit.datasets.decoded_images import (
    PROBED,
    DecodedImages,
    MayShrink,
    about_size,
    listed,
    promised,
    shared_store,
)
from mstkit.errors import UsageError
from mstkit.utils.free_memory import check_bytes, free_memory, in_words, local_processes

Memory = str | bool
_SHARE = 0.5  # of what is free, by default: the training itself and its workers need memory too
_DOUBT = 1.25  # above the limit by this factor, an estimate from some headers is believed


def check_memory(name: str, value: Any) -> Memory:
    """The value, when it is ``'auto'``, True, False, or a text that says a size; otherwise a UsageError."""
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise UsageError(f"{name} is {value!r}: give 'auto', True, False, or a size such as '2GiB'.")
    if value != 'auto':
        check_bytes(name, value)
    return value


def store_for(name: str, paths: Sequence[str], memory: Memory, may_shrink: MayShrink | None) -> DecodedImages | None:
    """A store for the images of a data set, shared with others of the same files; says in one line what was decided.

    Args:
        name: of the data set's class, for messages.
        paths: of the images.
        memory: see :class:`mstkit.datasets.file_dataset.FileDataset`, not False.
        may_shrink: see :func:`mstkit.datasets.decoded_images.listed`.

    Returns:
        The store; None if images are read from their files.

    Raises:
        UsageError: ``memory`` is True and the images do not fit.
    """
    store = shared_store(paths, may_shrink)
    if store is not None:
        print_log(f'{name}: {len(paths)} images are shared with those that are kept in memory', logger='current')
        return store
    free, processes = free_memory(), local_processes()
    if free is None and memory == 'auto':
        say_read_from_files(name, memory, 'how much memory is free is not known on this system')
        return None
    room = None if free is None else max(0, free - promised()) // processes
    limit = _limit(name, memory, room)
    about = ''
    if len(paths) > PROBED and limit is not None and (size := about_size(paths, may_shrink)) > _DOUBT * limit:
        about = 'about '
    else:
        listing = listed(paths, may_shrink)
        size = float(listing.sizes.sum())
    among = f', for each of {processes} processes' if processes > 1 else ''
    if limit is not None and size > limit:
        takes = f'{len(paths)} decoded images take {about}{in_words(size)}'
        if memory is True:
            raise UsageError(
                f'{name}.memory is True, and its {takes}, more than the {in_words(limit)} that are free{among}: set it '
                "to 'auto' or False to read the files in every epoch, use fewer images (max_images), smaller files, or "
                'fewer processes.'
            )
        kind = 'half of what is free' if memory == 'auto' else f'{name}.memory={memory!r} and what is free'
        say_read_from_files(name, memory, f'{takes}, and {kind} is {in_words(limit)}{among}')
        return None
    try:
        store = DecodedImages(listing)
    except OSError as error:
        say_read_from_files(name, memory, f'{in_words(size)} cannot be mapped ({error})')
        return None
    on_file = int((listing.sizes == 0).sum())
    rest = f'; {on_file} are not kept (unreadable, or large enough to be read at a reduced size)' if on_file else ''
    left = '' if room is None else f' of {in_words(room)} that are free{among}'
    print_log(
        f'{name}: {len(paths)} images stay in memory once decoded, {in_words(size)}{left}{rest}', logger='current'
    )
    return store


def say_read_from_files(name: str, memory: Memory, why: str) -> None:
    """Says in one line that images are read from their files in every epoch.

    Raises:
        UsageError: instead, if ``memory`` is True.
    """
    if memory is True:
        raise UsageError(f"{name}.memory is True, but images cannot be kept: {why}. Set it to 'auto' or False.")
    print_log(f'{name}: images are read from their files in every epoch: {why}', logger='current')


def _limit(name: str, memory: Memory, room: int | None) -> float | None:
    """Bytes that the images may take; None without a limit."""
    if memory == 'auto':
        return None if room is None else room * _SHARE
    if isinstance(memory, str):
        return min(check_bytes(f'{name}.memory', memory), math.inf if room is None else room)
    return room
