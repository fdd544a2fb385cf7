"""Exceptions for mistakes of the user and for work that cannot continue, and how tools report them.

Any mistake of the user (a value in a config, a folder, a checkpoint) raises :class:`UsageError`, whose message has the
offending value and says how to correct it. The tools print the message and exit with 2; in Python it is an ordinary
``ValueError``. Work that has to stop although the command was right (training diverged, the disk is full) raises
:class:`WorkStopped`, which is printed in the same way and exits with 3.
"""

from __future__ import annotations

import difflib
import errno
import functools
import io
import re
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any

from mstkit.utils.home_folder import expand_word

USAGE_EXIT, STOPPED_EXIT = 2, 3
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
# Of a path that nobody may use, or that no file can have; what is not there is looked for by those who know what it is.
OF_THE_PATH = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)
NOT_MAPPED = 'failed to map segment from shared object'  # of a library, for want of memory


class UsageError(ValueError):
    """A mistake of the user, with a message that says how to correct it.

    A DataLoader re-raises exceptions of its workers as ``type(error)(text)`` with the worker's traceback and the
    message as text. Only the message is kept, so that it is the same with and without workers.
    """

    def __init__(self, message: str) -> None:
        if message.startswith('Caught '):
            message = re.split(rf'\n[\w.]*{type(self).__name__}: ', message.rstrip())[-1]
        super().__init__(message)


class WorkStopped(RuntimeError):
    """Work that cannot continue although the command was right; the message says where it stopped and what was kept."""


class StoppedBySignal(WorkStopped):
    """Work that a signal ended: a program that raises it ends with 128 and the signal's number, as shells have it.

    Attributes:
        number: of the signal.
        reason: which signal it was, in words.
    """

    def __init__(self, number: int, rest: str) -> None:
        self.number = signal.Signals(number)
        keyboard = self.number is signal.SIGINT
        self.reason = 'interrupted from the keyboard' if keyboard else f'stopped by {self.number.name}'
        super().__init__(f'{self.reason}{rest}')


class DiskError(WorkStopped):
    """A file that could not be written completely; an earlier file of the same name is unchanged."""


def disk_is_full(error: BaseException) -> bool:
    """Whether an error means that a disk or the user's quota is full."""
    return isinstance(error, OSError) and error.errno in DISK_FULL


def write_any_name(stream: Any) -> None:
    """Makes a text stream escape invalid bytes of file names (``\\udcff``) instead of raising an exception."""
    if isinstance(stream, io.TextIOWrapper) and stream.errors != 'backslashreplace':
        stream.reconfigure(errors='backslashreplace')


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """Names the known words nearest to a mistyped one, ready to be put at the end of an error message.

    Args:
        name: what the user wrote.
        known: the valid words.
        count: maximum number of suggestions.

    Returns:
        ``" Did you mean A or B?"``, or ``""`` if nothing is close.
    """
    by_lower = {word.lower(): word for word in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=count, cutoff=0.5)
    return f' Did you mean {" or ".join(by_lower[word] for word in close)}?' if close else ''


def exit_code(error: UsageError | WorkStopped) -> int:
    """The exit code of a tool after one of these errors."""
    if isinstance(error, StoppedBySignal):
        return 128 + error.number
    return USAGE_EXIT if isinstance(error, UsageError) else STOPPED_EXIT


def exit_cleanly(main: Callable[[], object]) -> Callable[[], None]:
    """Wraps a tool's ``main``: :class:`UsageError` and :class:`WorkStopped` become one line on stderr.

    So does a full disk, whoever met it. The exit codes are :data:`USAGE_EXIT` and :data:`STOPPED_EXIT`. Before, ``~``
    becomes the home folder in the words of the command line, and the output learns to write any file name. Ctrl-C ends
    it with a word and the code 130, not with a traceback, and so does memory that runs out, with :data:`STOPPED_EXIT`;
    a path that may not be used or is too long is named in a line.
    """

    @functools.wraps(main)
    def wrapper() -> None:
        sys.argv[1:] = map(expand_word, sys.argv[1:])
        for stream in (sys.stdout, sys.stderr):
            write_any_name(stream)
        try:
            main()
        except (UsageError, WorkStopped) as error:
            print(f'error: {error}', file=sys.stderr, flush=True)
            sys.exit(exit_code(error))
        except KeyboardInterrupt:
            print('stopped from the keyboard', file=sys.stderr, flush=True)
            sys.exit(128 + signal.SIGINT)
        except (MemoryError, ImportError) as error:
            if isinstance(error, ImportError) and NOT_MAPPED not in str(error):
                raise
            print(f'error: memory ran out ({error or "no size given"}): free some.', file=sys.stderr, flush=True)
            sys.exit(STOPPED_EXIT)
        except OSError as error:
            if error.errno in OF_THE_PATH and error.filename is not None:
                # Of a long name its end tells more.
                print(f'error: {str(error.filename)[-200:]}: {error.strerror}', file=sys.stderr, flush=True)
                sys.exit(USAGE_EXIT)
            if not disk_is_full(error):
                raise
            print(
                f'error: {error.filename or "a file"} cannot be written: the disk is full.', file=sys.stderr, flush=True
            )
            sys.exit(STOPPED_EXIT)

    return wrapper
