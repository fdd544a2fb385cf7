"""What takes the place of ``sys.stdout`` and ``sys.stderr`` while a run has a progress line."""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable
from typing import Any, TextIO

from mstkit.utils.progress_line import print_above

# Packages whose prints are remarks about their own work, such as "creating index...": they go to the log file.
TALKATIVE = ('mmcv', 'mmdet', 'mmengine', 'mmpretrain', 'mmseg', 'pycocotools', 'timm', 'torchvision')


class PrintedText(io.TextIOBase):
    """A text stream that prints whole lines above the progress line.

    Lines of :data:`TALKATIVE` packages go to the log file instead. A bar that another package draws in place, with
    carriage returns, is passed on as it is.

    Args:
        stream: the stream that it stands for.
        to_file: writes a line to the log file.
    """

    def __init__(self, stream: TextIO, to_file: Callable[[str], None]) -> None:
        self._stream = stream
        self._to_file = to_file
        self._begun = {True: '', False: ''}  # lines without their end: of talkative packages, and of everybody else

    def write(self, text: str) -> int:
        """Shows, passes on or logs a text, depending on who prints it."""
        frame = inspect.currentframe()
        caller = frame.f_back if frame is not None else None  # None in a Python without frames
        package = str(caller.f_globals.get('__name__')).partition('.')[0] if caller is not None else ''
        talks = package in TALKATIVE
        if '\r' in text and not talks:
            self._stream.write(text)
            return len(text)
        *lines, self._begun[talks] = (self._begun[talks] + text).split('\n')
        if talks:
            for line in filter(str.strip, lines):
                self._to_file(line)
        elif lines:
            print_above(self._stream, '\n'.join(lines))
        return len(text)

    def flush(self) -> None:
        """Passes on; a line without its end waits for it."""
        if not self._stream.closed:
            self._stream.flush()

    def finish(self) -> None:
        """Writes lines that never ended."""
        if self._begun[True].strip():
            self._to_file(self._begun[True])
        if self._begun[False]:
            self._stream.write(self._begun[False])
        self._begun = {True: '', False: ''}

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """The descriptor of the stream."""
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of the stream."""
        return self._stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """Of the stream."""
        return self._stream.errors

    @property
    def buffer(self) -> Any:
        """The bytes below the stream."""
        return self._stream.buffer
