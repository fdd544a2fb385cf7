"""What a user's mistake looks like.

Anything that a user can get wrong (a value in a config, a folder, a checkpoint) raises :class:`UsageError`
with one sentence that holds the offending value and the way out. The tools print that sentence and exit with 2;
from Python it is an ordinary ``ValueError``. Work that has to end although the command was right (a training
diverged, the disk is full) raises :class:`WorkStopped`, which is printed in the same way and exits with 3.
"""

from __future__ import annotations

import difflib
import errno
import functools
import io
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

from mstkit.utils.home_folder import expand_word

USAGE_EXIT, STOPPED_EXIT = 2, 3
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class UsageError(ValueError):
    """A mistake of the user's, with a message that says how to mend it.

    A worker of a DataLoader hands its exceptions on as ``type(error)(text)``, where the text is the worker's whole
    traceback and ends in the message. Only the message is kept, so that it reads the same with workers and without.
    """

    def __init__(self, message: str) -> None:
        if message.startswith('Caught '):
            message = re.split(rf'\n[\w.]*{type(self).__name__}: ', message.rstrip())[-1]
        super().__init__(message)


class WorkStopped(RuntimeError):
    """Work that cannot go on though the command was right; the message says where it stopped and what it left."""


class DiskError(WorkStopped):
    """A file that the disk would not take, whole; what was there under its name is still there."""


def disk_is_full(error: BaseException) -> bool:
    """Whether an error says that a disk, or somebody's share of it, is full."""
    return isinstance(error, OSError) and error.errno in DISK_FULL


def write_any_name(stream: Any) -> None:
    """Lets a text stream write file names that are not UTF-8: odd bytes as ``\\udcff``, instead of an exception."""
    if isinstance(stream, io.TextIOWrapper) and stream.errors != 'backslashreplace':
        stream.reconfigure(errors='backslashreplace')


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """Names the known words nearest to a mistyped one, ready to be put at the end of an error message.

    Args:
        name: what the user wrote.
        known: the words that would have been understood.
        count: how many suggestions at the most.

    Returns:
        ``" Did you mean A or B?"``, or ``""`` where nothing is close.
    """
    by_lower = {word.lower(): word for word in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=count, cutoff=0.5)
    return f' Did you mean {" or ".join(by_lower[word] for word in close)}?' if close else ''


def exit_code(error: UsageError | WorkStopped) -> int:
    """What a tool exits with after one of our errors."""
    return USAGE_EXIT if isinstance(error, UsageError) else STOPPED_EXIT


def exit_cleanly(main: Callable[[], object]) -> Callable[[], None]:
    """Wraps a tool's ``main``: :class:`UsageError` and :class:`WorkStopped` become one line on stderr.

    So does a full disk, whoever met it. The exit codes are :data:`USAGE_EXIT` and :data:`STOPPED_EXIT`. Before, ``~``
    becomes the home folder in the words of the command line, and the output learns to write any file name.
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
        except OSError as error:
            if not disk_is_full(error):
                raise
            print(
                f'error: {error.filename or "a file"} cannot be written: the disk is full.', file=sys.stderr, flush=True
            )
            sys.exit(STOPPED_EXIT)

    return wrapper
