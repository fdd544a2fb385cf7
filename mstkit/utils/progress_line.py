"""A line of a terminal that is rewritten in place, and other lines printed above it without tearing it."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, TextIO

ERASE = '\r\x1b[K'  # to the start of the line, and clear it
COLUMNS = 80  # of a terminal that does not say how wide it is

_SHOWN: list[ProgressLine] = []  # a terminal shows the last one; the others come back when it is closed


def is_terminal(stream: Any) -> bool:
    """Whether a line of a stream can be rewritten in place."""
    return stream.isatty() and os.environ.get('TERM') != 'dumb'


class ProgressLine:
    """One line at the bottom of a terminal.

    Args:
        stream: a terminal (:func:`is_terminal`).
        pause: seconds between two drawings, so that quick steps are not slowed down.
    """

    def __init__(self, stream: TextIO, pause: float = 0.2) -> None:
        self.stream = stream
        self.pause = pause
        self._text = ''
        self._drawn = -pause

    @property
    def due(self) -> bool:
        """Whether the line would be drawn now, so that its text is worth being composed."""
        return time.monotonic() - self._drawn >= self.pause

    def show(self, text: str) -> None:
        """Shows a text in place of the last one, cut off at the width of the terminal."""
        if self not in _SHOWN:
            _SHOWN.append(self)
            self._drawn = -self.pause
        self._text = text
        if self is _SHOWN[-1] and self.due:
            self.draw()

    def draw(self) -> None:
        """Draws the line again."""
        self._drawn = time.monotonic()
        self._write(ERASE + self._text[: self._columns() - 1])

    def erase(self) -> None:
        """Clears the line, which then is where the next text is written."""
        self._write(ERASE)

    def close(self) -> None:
        """Removes the line from the terminal; the one that it covered comes back."""
        if self in _SHOWN:
            self.erase()
            _SHOWN.remove(self)
            if _SHOWN:
                _SHOWN[-1].draw()

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self.stream.fileno()).columns or COLUMNS
        except (OSError, ValueError):  # a stream of a test, or one that is closed
            return COLUMNS

    def _write(self, text: str) -> None:
        with _whoever_reads():
            self.stream.write(text)
            self.stream.flush()


def print_above(stream: TextIO, text: str) -> None:
    """Prints lines above the progress line, if there is one."""
    if _SHOWN:
        _SHOWN[-1].erase()
    with _whoever_reads():
        stream.write(f'{text}\n')
        stream.flush()
    if _SHOWN:
        _SHOWN[-1].draw()


def _whoever_reads() -> contextlib.AbstractContextManager[None]:
    """A training goes on when nobody reads its screen any more: a closed terminal, a pipe into ``head``."""
    return contextlib.suppress(OSError, ValueError)
