"""The screen of a run: which lines of its log, of other packages' output and of Python's warnings are shown.

``screen='short'`` (the default) shows warnings, errors and what is marked with :data:`ON_SCREEN`; the log file gets
everything, also what other packages print and warn of. ``screen='full'`` shows the whole log, as mmengine does. It is
chosen by ``--screen`` or ``screen`` in the config, else by the environment variable :data:`VARIABLE`.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from mmengine import dist
from mmengine.logging import MMLogger

import mstkit
from mstkit.engine.screen.printed_text import PrintedText
from mstkit.errors import write_any_name
from mstkit.utils.checks import check_one_of
from mstkit.utils.log_marks import MARK, LogListener
from mstkit.utils.progress_line import print_above

SHORT, FULL = 'short', 'full'
SCREENS = (SHORT, FULL)
VARIABLE = 'MSTKIT_SCREEN'

_OURS = str(Path(mstkit.__file__).parent)
_INSTALLED = tuple({sysconfig.get_paths()[kind] for kind in ('purelib', 'platlib', 'stdlib')})
# What packages tell their own developers, or say in every run of theirs, also one with mstkit's configs as they are.
_NOTICES = re.compile(
    r'deprecat|Default ``avg_non_ignore`` is False|The draw is False|The prefix is not set in metric class'
    r'|Setting \w+_NUM_THREADS environment variable|Grad strides do not match bucket view strides',
    re.IGNORECASE,
)
_DEPRECATIONS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)


def chosen_screen(settings: Mapping[str, Any]) -> str:
    """One of :data:`SCREENS`: that of the config, else of the environment.

    Raises:
        UsageError: another word.
    """
    if settings.get('screen') is not None:
        return check_one_of('screen', settings['screen'], SCREENS)
    return check_one_of(f'the environment variable {VARIABLE}', os.environ.get(VARIABLE) or SHORT, SCREENS)


class Screen:
    """Decides what a run shows, and writes the rest to its log file alone.

    Args:
        settings: the config of the run.

    Attributes:
        full: the whole log is shown, and nothing here has an effect.
        speaks: whether this process shows anything but errors: rank 0, with the log level INFO or below.
        changes: what the command line changed in the config, for the summary.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.full = chosen_screen(settings) == FULL
        self.speaks = False
        self.changes: list[str] = []
        self.stream: TextIO = sys.stdout
        self._logger: MMLogger | None = None
        self._waiting: list[logging.LogRecord] = []  # until there is a log file
        self._listens = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within this context, what other packages print and warn of goes where it belongs."""
        if self.full or self._listens:
            yield
            return
        before = sys.stdout, sys.stderr, warnings.showwarning
        self.stream, self._listens = sys.stdout, True
        printed = [PrintedText(stream, self.to_file) for stream in before[:2]]
        sys.stdout, sys.stderr = printed
        warnings.showwarning = self._warned
        try:
            yield
        finally:
            sys.stdout, sys.stderr, warnings.showwarning = before
            self._listens = False
            for one in printed:
                one.finish()

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """Within this context there is no log file yet: its lines are kept for :meth:`attach`, warnings shown."""
        if self.full:
            yield
            return
        logger = MMLogger.get_current_instance()
        before = list(logger.handlers)
        plain = [handler for handler in before if isinstance(handler, logging.StreamHandler)]
        level = min((handler.level for handler in plain), default=logging.INFO)
        ours = ScreenHandler(self, level)
        gather = _Gatherer(self._waiting, level)
        logger.handlers[:] = [gather, ours, *(handler for handler in before if handler not in plain)]
        try:
            yield
        finally:
            logger.handlers[:] = before

    def attach(self, logger: MMLogger) -> None:
        """Replaces the console of a run's logger, and writes what has been kept so far to its log file."""
        if self.full:
            return
        self._logger = logger
        for place, handler in enumerate(logger.handlers):
            of_file = isinstance(handler, logging.FileHandler)
            if of_file or not isinstance(handler, logging.StreamHandler | ScreenHandler):
                continue
            ours = ScreenHandler(self, handler.level)
            for one in handler.filters:
                ours.addFilter(one)
            logger.handlers[place] = ours
            self.speaks = dist.is_main_process() and handler.level <= logging.INFO
        waiting, self._waiting = self._waiting, []
        for record in waiting:
            self._write(record)

    def say(self, text: str) -> None:
        """Shows lines, and writes them to the log file too."""
        self.to_file(text)
        self.show(text)

    def show(self, text: str) -> None:
        """Shows lines that the log file has in a longer form."""
        if self.speaks:
            print_above(self.stream, text)

    def to_file(self, text: str, level: int = logging.INFO) -> None:
        """Writes lines to the log file alone; neither the screen nor the record of events gets them."""
        if self.full:
            return
        facts = dict(name='mstkit', msg=text, levelno=level, levelname=logging.getLevelName(level))
        record = logging.makeLogRecord(facts)
        if self._logger is None:
            self._waiting.append(record)
        else:
            self._write(record)

    def _write(self, record: logging.LogRecord) -> None:
        for handler in self._logger.handlers if self._logger is not None else ():
            if isinstance(handler, logging.FileHandler) and record.levelno >= handler.level:
                handler.handle(record)

    def _warned(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        """Takes the place of :func:`warnings.showwarning`."""
        text = f'{message} ({category.__name__}, {filename}:{lineno})'
        self.to_file(text, logging.WARNING)
        foreign = filename.startswith(_INSTALLED) and not filename.startswith(_OURS)
        if dist.is_main_process() and not (foreign and (issubclass(category, _DEPRECATIONS) or is_notice(text))):
            print_above(self.stream, f'warning: {text}')


class ScreenHandler(LogListener):
    """The console of a log: shows warnings, errors and what is marked, above the progress line.

    Args:
        screen: of the run.
        level: the lowest that is shown, as of mmengine's console.
    """

    def __init__(self, screen: Screen, level: int) -> None:
        super().__init__(level)
        self.screen = screen
        write_any_name(screen.stream)

    def emit(self, record: logging.LogRecord) -> None:
        """Shows a line of the log if it belongs on the screen."""
        text = record.getMessage()
        if record.exc_info:
            text = f'{text}\n{logging.Formatter().formatException(record.exc_info)}'
        if record.levelno >= logging.ERROR:
            rank = dist.get_rank()
            print_above(self.screen.stream, f'error{f" on rank {rank}" if rank else ""}: {text}')
        elif record.levelno >= logging.WARNING:
            if not is_notice(text):
                print_above(self.screen.stream, f'warning: {text}')
        elif getattr(record, MARK, False):  # records of other packages have no mark
            print_above(self.screen.stream, text)


class _Gatherer(LogListener):
    def __init__(self, records: list[logging.LogRecord], level: int) -> None:
        super().__init__(level)
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)


def is_notice(text: str) -> bool:
    """Whether a warning of another package needs no attention: something is deprecated, and works."""
    return _NOTICES.search(text) is not None
