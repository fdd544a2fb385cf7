"""Writes the checkpoint of a sharded training: every process its own parts, side by side, in one step."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine import dist

from mstkit.engine.checkpoints import checkpointing
from mstkit.errors import DiskError
from mstkit.interop.sharded_checkpoint import REST, SUFFIX, take_tensors
from mstkit.utils.files import PARTIAL, is_refusal, refusal

_SPREAD = ('state_dict', 'optimizer')


def save_sharded(checkpoint: Mapping[str, Any], path: Path) -> Path:
    """Writes a folder; called by all processes, which have to see the same file system.

    The folder appears under its name when all processes have written theirs: it is whole, or not there.

    Args:
        checkpoint: like an ordinary one, with spread tensors in ``state_dict`` and ``optimizer``.
        path: its name; the suffix becomes ``.dcp``.

    Returns:
        The folder.

    Raises:
        DiskError: the disk is full, or does not take the folder for another reason.
    """
    # here, because a torch that was built without distributed training has none of it
    from torch.distributed.checkpoint import FileSystemWriter, save

    path = path.with_suffix(SUFFIX)
    partial = path.with_name(f'.{path.name}{PARTIAL}')
    if dist.is_main_process():
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    dist.barrier()
    tensors: dict[str, Any] = {}
    rest = {
        name: take_tensors(value, name, tensors) if name in _SPREAD else value for name, value in checkpoint.items()
    }
    try:
        save(tensors, storage_writer=FileSystemWriter(partial))
    except BaseException as error:  # after all processes have ended their part
        if dist.is_main_process():
            shutil.rmtree(partial, ignore_errors=True)
        reason = _refused_by_disk(error)
        if reason is None:
            raise
        raise DiskError(refusal(path, reason)) from error
    if dist.is_main_process():
        checkpointing.save(rest, partial / REST)
        old = path.with_name(f'.{path.name}.old{PARTIAL}')
        if path.exists():
            path.rename(old)
        partial.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    dist.barrier()
    return path


def _refused_by_disk(error: BaseException) -> OSError | None:
    """The disk's own error, of any process: torch gathers them all, and wraps each in others."""
    waiting, seen = [error], set()
    while waiting:
        one = waiting.pop()
        if isinstance(one, OSError) and is_refusal(one):
            return one
        seen.add(id(one))
        # Of torch's CheckpointException: by rank, each an error with its traceback.
        failures = getattr(one, 'failures', None)
        of_ranks = [failure[0] for failure in failures.values()] if isinstance(failures, Mapping) else []
        waiting += [
            other
            for other in (one.__cause__, one.__context__, *of_ranks)
            if isinstance(other, BaseException) and id(other) not in seen
        ]
    return None
