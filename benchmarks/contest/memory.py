"""The memory of this process, read from the system."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path


def memory(name: str) -> int | None:
    """Bytes of this process: current (VmRSS), or the peak since the last call of start_peak (VmHWM)."""
    try:
        found = re.search(rf'^{name}:\s+(\d+) kB', Path('/proc/self/status').read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def start_peak() -> None:
    """Resets the peak of memory, if the system supports it."""
    with contextlib.suppress(OSError):
        Path('/proc/self/clear_refs').write_text('5')
