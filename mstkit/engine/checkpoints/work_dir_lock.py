"""One training at a time in a work dir: a lock that the operating system takes back when its holder dies."""

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
# What file systems answer that know no such locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)


class WorkDirLock:
    """The right to train in a work dir, held as long as this object lives, or the process does, however it ends.

    The lock is ``flock`` on the file ``.training.lock``, which names host, process and time of its holder, and the run
    that was trained there last. Several runners of one process share it; data workers do not keep it.

    Use :func:`lock_work_dir` to get one.

    Attributes:
        warning: why the folder is not protected; None where it is.
    """

    def __init__(self, descriptor: int, warning: str | None) -> None:
        self.warning = warning
        self._descriptor = descriptor
        self._close = weakref.finalize(self, os.close, descriptor)
        _OPEN.add(self)

    def stands_for(self, file: Path) -> bool:
        """Whether it is still that file: the folder may have been removed and made again."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(file))
        except OSError:
            return False

    def write(self, **fields: Any) -> None:
        """Changes what the file says; in place, because a new file would be another lock."""
        content = json.dumps({**self.read(), **fields}).encode()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, content, 0)

    def read(self) -> dict[str, Any]:
        """What the file says; empty where it says nothing."""
        return _parse(os.pread(self._descriptor, 1 << 16, 0))

    def close(self) -> None:
        """Gives the folder back for all who share it, or, in a forked process, the copy that it inherited."""
        self._close()


_OPEN: weakref.WeakSet[WorkDirLock] = weakref.WeakSet()
_HELD: weakref.WeakValueDictionary[str, WorkDirLock] = weakref.WeakValueDictionary()


def _close_in_child() -> None:
    """A forked data worker that outlives a killed training must not hold its lock; closing a copy does not unlock."""
    for lock in list(_OPEN):
        lock.close()


os.register_at_fork(after_in_child=_close_in_child)


def lock_work_dir(work_dir: str | os.PathLike[str]) -> WorkDirLock:
    """Takes the lock of a work dir, which is made where it is missing.

    On a file system without locks the result says so (``warning``), and nothing is protected.

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
                f'{work_dir} lies on a file system without locks ({error.strerror}): '
                'nothing keeps a second training out of it'
            )
        lock = WorkDirLock(descriptor, warning)
        if lock.stands_for(file):  # else its folder was removed between opening and locking
            break
        lock.close()
    _HELD[str(file)] = lock
    lock.write(host=socket.gethostname(), pid=os.getpid(), started=time.strftime('%Y-%m-%d %H:%M:%S'))
    return lock


def is_used(work_dir: str | os.PathLike[str]) -> bool:
    """Whether a training was, or is, in a folder: there is a lock that it could hold."""
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
