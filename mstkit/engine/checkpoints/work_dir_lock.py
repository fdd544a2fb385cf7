"""A lock that allows one training at a time in a work dir; the operating system releases it if the process dies."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
import weakref
from pathlib import Path
from typing import Any

from mstkit.errors import UsageError

LOCK = '.training.lock'
# Errors of file systems without locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)


class WorkDirLock:
    """The lock of a work dir, held until this object is deleted or the process ends.

    It is an ``flock`` on the file ``.training.lock``, which holds host, process id and start time of its holder, and
    the id of the last run in the folder. Several runners of one process share it; data workers do not inherit it.

    Use :func:`lock_work_dir` to get one.

    Attributes:
        warning: why the folder is not protected; None if it is.
    """

    def __init__(self, descriptor: int, warning: str | None) -> None:
        self.warning = warning
        self._descriptor = descriptor
        self._close = weakref.finalize(self, os.close, descriptor)
        _OPEN.add(self)

    def stands_for(self, file: Path) -> bool:
        """Whether the lock is on this very file: the folder may have been deleted and created again."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(file))
        except OSError:
            return False

    def write(self, **fields: Any) -> None:
        """Updates fields in the file; in place, because a new file would not be locked."""
        content = json.dumps({**self.read(), **fields}).encode()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, content, 0)

    def read(self) -> dict[str, Any]:
        """The fields in the file; empty if it is empty or damaged."""
        return _parse(os.pread(self._descriptor, 1 << 16, 0))

    def close(self) -> None:
        """Releases the lock for all runners that share it; in a forked process only the inherited descriptor."""
        self._close()


_OPEN: weakref.WeakSet[WorkDirLock] = weakref.WeakSet()
_HELD: weakref.WeakValueDictionary[str, WorkDirLock] = weakref.WeakValueDictionary()


def _close_in_child() -> None:
    """Closes the descriptors that a forked data worker inherits, or it would keep the lock of a killed training.

    Closing an inherited descriptor does not release the lock of the parent.
    """
    for lock in list(_OPEN):
        lock.close()


os.register_at_fork(after_in_child=_close_in_child)


def lock_work_dir(work_dir: str | os.PathLike[str]) -> WorkDirLock:
    """Locks a work dir, which is created if it is missing.

    On a file system without locks ``warning`` of the result is set, and the folder is not protected.

    Raises:
        UsageError: another process trains in it; the message names that process.
    """
    file = Path(work_dir).resolve() / LOCK
    held = _HELD.get(str(file))
    if held is not None and held.stands_for(file):
        return held
    file.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        warning = None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _parse(os.pread(descriptor, 1 << 16, 0))
            if error.errno not in _NO_LOCKS:
                os.close(descriptor)
                if not isinstance(error, BlockingIOError):
                    raise
                raise UsageError(_taken(work_dir, holder)) from None
            warning = (
                f'{work_dir} is on a file system without locks ({error.strerror}): '
                'a second training in it would not be noticed'
            )
        lock = WorkDirLock(descriptor, warning)
        if lock.stands_for(file):  # else its folder was removed between opening and locking
            break
        lock.close()
    _HELD[str(file)] = lock
    lock.write(host=socket.gethostname(), pid=os.getpid(), started=time.strftime('%Y-%m-%d %H:%M:%S'))
    return lock


def is_used(work_dir: str | os.PathLike[str]) -> bool:
    """Whether a training was started in a folder before, so that it has a lock file."""

    return (Path(work_dir) / LOCK).is_file()


def _taken(work_dir: str | os.PathLike[str], holder: dict[str, Any]) -> str:
    who = 'another process'
    if {'pid', 'host', 'started'} <= set(holder):
        who = f'process {holder["pid"]} on {holder["host"]}, started {holder["started"]}'
    return (
        f'{work_dir} is being trained in by {who}: wait for it, stop it, or choose another --work-dir. '
        'Two trainings in one folder would overwrite each other.'
    )


def _parse(content: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        found = json.loads(content)
        if isinstance(found, dict):
            return found
    return {}
