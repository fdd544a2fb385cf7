"""Processes that keep cores busy, as another program on the machine would."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

BUSY = 'while True: pass'


@contextlib.contextmanager
def neighbors(count: int) -> Iterator[None]:
    """Processes that each keep a core busy, as another training would."""
    processes = [subprocess.Popen([sys.executable, '-S', '-c', BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
