"""Atomic writing of files, and messages for errors of the disk."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from mstkit.errors import DISK_FULL, DiskError, disk_is_full

PARTIAL = '.partial'
_REFUSED = (
    *DISK_FULL,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENAMETOOLONG,
)
_HOST = re.sub(r'[^A-Za-z0-9-]', '-', socket.gethostname())
_OWNER = re.compile(rf'\.(?P<host>[A-Za-z0-9-]+)_(?P<pid>\d+){re.escape(PARTIAL)}')
_SILENCE = 600.0  # seconds without a write after which a partial file of a process that has ended is abandoned
_TIDIED: set[Path] = set()


class _Watched(io.BufferedWriter):
    """An open file that remembers the OSError of a failed write, which torch and PIL replace by their own errors.

    It hides its file descriptor, through which libraries would bypass it.
    """

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.failure = self.failure or error
            raise

    def fileno(self) -> int:
        raise io.UnsupportedOperation('written through Python alone')


def write_atomically(
    path: str | os.PathLike[str], content: bytes | Callable[[BinaryIO], object], size: int | None = None
) -> None:
    """Writes a file atomically: it is complete or unchanged, even if the machine crashes in between.

    The content is written to a temporary file in the same folder, flushed to the disk and renamed. Partial files of
    killed processes in that folder are removed.

    Args:
        path: the file; its folder is created if missing.
        content: the bytes, or a function that writes them to an open file.
        size: about how many bytes a function will write, for the message when they do not fit.

    Raises:
        DiskError: the disk is full, or the file system does not accept the file.
    """
    path = Path(path)
    size = len(content) if isinstance(content, bytes) else size
    partial = path.with_name(f'.{path.name}.{_HOST}_{os.getpid()}{PARTIAL}')
    file: _Watched | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _tidy_once(path.parent)
        raw = _open(partial)
        with _Watched(raw) as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)
            file.flush()
            os.fsync(raw.fileno())
        os.replace(partial, path)
    except BaseException as error:
        _remove(partial)
        reason = (file and file.failure) or error
        if isinstance(reason, OSError) and is_refusal(reason):
            raise DiskError(refusal(path, reason, size)) from error
        raise
    if hasattr(os, 'O_DIRECTORY'):  # not on Windows: the rename itself has to reach the disk too
        folder = os.open(path.parent, os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _open(path: Path) -> io.FileIO:
    return io.FileIO(path, 'w')


def free_space(folder: str | os.PathLike[str]) -> str:
    """The free space on the disk of a folder, in words; empty if unknown."""
    try:
        return f'{_in_words(shutil.disk_usage(folder).free)} free'
    except OSError:
        return ''


def is_refusal(error: OSError) -> bool:
    """Whether an error means that the disk or the file system does not accept a file."""
    return error.errno in _REFUSED


def refusal(path: Path, error: OSError, size: int | None = None) -> str:
    """One sentence for a file that could not be written, and what helps.

    Args:
        path: the file.
        error: of the disk; see :func:`is_refusal`.
        size: about how many bytes it would have had.
    """
    known = [f'it needs about {_in_words(size)}' if size else '', free_space(path.parent)]
    detail = ', '.join(filter(None, known))
    if disk_is_full(error):
        why = 'the disk is full' if error.errno == errno.ENOSPC else 'your share of the disk is used up'
        why, way_out = f'{why}{f" ({detail})" if detail else ""}', 'Free some space, or write to another disk.'
    elif error.errno == errno.EFBIG:
        why = str(error.strerror).lower()
        way_out = 'Raise the limit of this shell (ulimit -f unlimited), or write to another file system.'
    else:
        why, way_out = str(error.strerror).lower(), 'Make the folder writable, or write to another one.'
    return f'{path} cannot be written: {why}; nothing of it is left behind. {way_out}'


def _in_words(size: int) -> str:
    return f'{size / 1e9:.1f} GB' if size >= 1e9 else f'{size / 1e6:.1f} MB' if size >= 1e5 else f'{size / 1e3:.0f} kB'


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # of a folder that is none: the first error is the one to be told
        path.unlink(missing_ok=True)


def _tidy_once(folder: Path) -> None:
    """Removes partial files of killed processes in a folder, when this process first writes there."""
    folder = folder.absolute()
    if folder in _TIDIED:
        return
    _TIDIED.add(folder)
    for leftover in folder.glob(f'.*{PARTIAL}'):
        if _is_nobodys(leftover):
            _remove(leftover)


def _is_nobodys(partial: Path) -> bool:
    owner = _OWNER.search(partial.name)
    try:
        if owner is None or partial.is_dir() or time.time() - partial.stat().st_mtime < _SILENCE:
            return False
        if owner['host'] != _HOST:
            return time.time() - partial.stat().st_mtime > 100 * _SILENCE
        os.kill(int(owner['pid']), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # it belongs to somebody else's process, or is gone
        return False
    return False


def remove_leftovers(folder: str | os.PathLike[str]) -> list[Path]:
    """Removes partial files of killed runs in a folder and returns their paths.

    Only for a folder into which no other process writes; :func:`write_atomically` only removes abandoned files.
    """
    leftovers = sorted(Path(folder).glob(f'.*{PARTIAL}'))
    for leftover in leftovers:
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)
    return leftovers


def link_or_copy(source: Path, target: Path) -> None:
    """Gives a file a second name by a hard link; where the file system has none, by a copy.

    Args:
        source: the file.
        target: its other name, replaced where it exists; its folder is made where missing.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        write_atomically(target, source.read_bytes())
