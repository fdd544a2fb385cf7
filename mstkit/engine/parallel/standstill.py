"""Notices a process whose main thread stands still, while its other threads go on and it looks alive to the others."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

from mstkit.utils.private_attributes import frame_of

# In a second. A thread that looks around now and then, and what reads and writes for it, stay far below both.
COMPUTING = 0.05  # seconds of the processor
MOVING = 64 << 10  # bytes
SHOWN = 3  # functions that a sentence names
_OTHERS = os.path.join('torch', 'distributed', '')  # where a process waits for the others
_BACKWARD = '_engine_run_backward'  # likewise: gradients are summed up inside of it
_INNERMOST = 4  # functions among which these are looked for


class Standstill:
    """Looks at the main thread from another one.

    It stands still when, for some time, it was in the same place, this process and its workers have hardly computed,
    read or written anything, and it did not wait for the other processes (in ``torch.distributed``, or in the backward
    pass). So a measurement, compilation, or a checkpoint on a slow disk is none, and a file system that does not
    answer, or a lock that nobody gives back, is one. A GPU that never ends looks busy: the main thread that waits for
    it computes.

    Args:
        limit: seconds.
        thread: looked at; the main thread if None.
    """

    def __init__(self, limit: float, thread: threading.Thread | None = None) -> None:
        self.limit, self.thread = limit, thread or threading.main_thread()
        self.reset()

    def reset(self) -> None:
        """Begins anew, as after a time in which this process itself was stopped."""
        self._place: list[tuple[CodeType, int]] = []
        self._since, self._work = time.monotonic(), _work()

    def found(self) -> str | None:
        """Looks; to be called every few seconds. Returns where the thread has stood still for the limit, or None."""
        place, now, work = self._stack(), time.monotonic(), _work()
        seconds = now - self._since
        if place != self._place or _waits_for_others(place) or _exceeds(work, self._work, seconds):
            self._place, self._since, self._work = place, now, work
            return None
        if seconds < self.limit:
            return None
        shown = (f'{code.co_name} ({code.co_filename}:{_line(code, at)})' for code, at in place[:SHOWN])
        return ', called by '.join(shown)

    def _stack(self) -> list[tuple[CodeType, int]]:
        """The functions that the thread is in, the innermost first, each with the place in it."""
        frame, found = frame_of(self.thread), []
        while frame is not None:
            found.append((frame.f_code, frame.f_lasti))
            frame = frame.f_back
        return found


def _waits_for_others(place: list[tuple[CodeType, int]]) -> bool:
    return any(_OTHERS in code.co_filename or code.co_name == _BACKWARD for code, _ in place[:_INNERMOST])


def _exceeds(work: tuple[float, int], before: tuple[float, int], seconds: float) -> bool:
    computed, moved = work[0] - before[0], work[1] - before[1]
    return computed > COMPUTING * max(1.0, seconds) or moved > MOVING * max(1.0, seconds)


def _work() -> tuple[float, int]:
    """Seconds that this process and its children have computed, and bytes that they have read and written."""
    seconds, moved = time.process_time(), 0
    with contextlib.suppress(OSError, ValueError, IndexError):  # no such files on other systems than Linux
        for folder in _processes():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a child that has just ended
                counts = dict(line.split(': ') for line in (folder / 'io').read_text().splitlines())
                moved += int(counts['rchar']) + int(counts['wchar'])
                if folder.name != 'self':
                    # Behind the name, which may hold anything: user and system time are fields 14 and 15 of the file.
                    fields = (folder / 'stat').read_text().rpartition(')')[2].split()
                    seconds += (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')
    return seconds, moved


def _processes() -> Iterator[Path]:
    """The folders in /proc of this process and of its children."""
    here = Path('/proc/self')
    yield here
    for task in (here / 'task').iterdir():
        yield from (Path('/proc', child) for child in (task / 'children').read_text().split())


def _line(code: CodeType, at: int) -> int:
    """The line of a place in a function."""
    return next((line for start, end, line in code.co_lines() if start <= at < end and line), code.co_firstlineno)
