"""Progress of long loops: a bar on a terminal, occasional lines in a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TextIO, TypeVar

from tqdm import tqdm

T = TypeVar('T')


def track(
    iterable: Iterable[T],
    total: int,
    description: str,
    enabled: bool = True,
    every_seconds: float = 10.0,
    stream: TextIO | None = None,
) -> Iterator[T]:
    """Iterates and shows progress.

    On a terminal by a tqdm bar that is removed at the end; elsewhere by one line every ``every_seconds`` seconds, so
    that log files stay short and a quick loop prints nothing.

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
    elif out.isatty():
        yield from tqdm(iterable, total=total, desc=description, leave=False, file=out)
    else:
        start = last = time.monotonic()
        for done, item in enumerate(iterable, start=1):
            yield item
            now = time.monotonic()
            if now - last >= every_seconds:
                last = now
                print(f'{description}: {done}/{total} ({now - start:.0f} s)', file=out, flush=True)
