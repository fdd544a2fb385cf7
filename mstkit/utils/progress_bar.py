"""Progress of long loops: a line in place on a terminal, occasional lines in a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TextIO, TypeVar

from mstkit.utils.progress_line import ProgressLine, is_terminal

T = TypeVar('T')


def track(
    iterable: Iterable[T],
    total: int,
    description: str,
    enabled: bool = True,
    every_seconds: float = 30.0,
    stream: TextIO | None = None,
) -> Iterator[T]:
    """Iterates and shows progress.

    On a terminal by a line in place that is removed at the end; elsewhere by one line every ``every_seconds`` seconds,
    so that log files stay short and a quick loop prints nothing.

    Args:
        iterable: what to go through.
        total: how many items it will give.
        description: a few words in front of the numbers.
        enabled: False shows nothing (ranks other than 0).
        every_seconds: pause between two lines where there is no terminal.
        stream: where to write; stderr by default, so that results on stdout stay clean.
    """
    out = sys.stderr if stream is None else stream
    if not enabled:
        yield from iterable
    elif is_terminal(out):
        yield from _in_place(iterable, total, description, out)
    else:
        start = last = time.monotonic()
        for done, item in enumerate(iterable, start=1):
            yield item
            now = time.monotonic()
            if now - last >= every_seconds:
                last = now
                print(f'{description}: {done}/{total} ({now - start:.0f} s)', file=out, flush=True)


def _in_place(iterable: Iterable[T], total: int, description: str, out: TextIO) -> Iterator[T]:
    line, start = ProgressLine(out), time.monotonic()
    try:
        line.show(f'{description}: 0/{total}')
        for done, item in enumerate(iterable, start=1):
            yield item
            if line.due:
                left = (time.monotonic() - start) / done * max(total - done, 0)
                line.show(f'{description}: {done}/{total}, {time_left(left)}')
    finally:
        line.close()


def time_left(seconds: float) -> str:
    """A duration in words: ``0:12 left``, ``1:02:03 left``, ``2 d 3 h left``."""
    whole = int(seconds)
    if whole >= 86400:
        return f'{whole // 86400} d {whole % 86400 // 3600} h left'
    hours, minutes = divmod(whole // 60, 60)
    clock = f'{hours}:{minutes:02d}' if hours else f'{minutes}'
    return f'{clock}:{whole % 60:02d} left'
