"""The number of files that a process may have open, which data workers need for the batches that they hand over."""

from __future__ import annotations

import os

from mstkit.errors import UsageError

try:
    import resource  # not on Windows
except ImportError:
    resource = None  # type: ignore[assignment]

WANTED = 16_384
PER_WORKER, OWN = 48, 64


def allow_open_files(workers: int) -> None:
    """Raises the limit of this process as far as the system lets it, and refuses one that cannot be enough.

    A worker that cannot open a file for a batch drops it, and the training would wait for it without end.

    Args:
        workers: data workers that this process will start.

    Raises:
        UsageError: the limit, which only the shell or the administrator can raise, is too low.
    """
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = hard == resource.RLIM_INFINITY
    if soft != resource.RLIM_INFINITY and soft < WANTED:
        soft = WANTED if unlimited else min(WANTED, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    needed = _open_now() + OWN + PER_WORKER * workers
    if not unlimited and hard < needed:
        raise UsageError(
            f'only {hard} files may be open here, and a training with {workers} data workers needs about {needed}: '
            'raise the limit (ulimit -n 4096 in a new shell), or start fewer workers (--cfg-options '
            'train_dataloader.num_workers=N).'
        )


def _open_now() -> int:
    try:
        return len(os.listdir('/proc/self/fd'))
    except OSError:  # not on Linux
        return 32
