"""Writes the checkpoint of a sharded training: every process writes its shards into a common folder."""

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
    """Writes a checkpoint as a folder; every process calls it, and all need a common file system.

    The folder gets its final name when all processes have written their shards, so it is never incomplete.

    Args:
        checkpoint: like that of other trainings, but with sharded tensors in ``state_dict`` and ``optimizer``.
        path: of the folder; the suffix becomes ``.dcp``.

    Returns:
        The folder.

    Raises:
        DiskError: the folder cannot be written, for example because the disk is full.
    """
    # imported here, because a torch that is built without distributed training does not have it
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
    """Finds the disk's error of any process among the nested exceptions that torch gathers; None without one."""
    waiting, seen = [error], set()
    while waiting:
        one = waiting.pop()
        if isinstance(one, OSError) and is_refusal(one):
            return one
        seen.add(id(one))
        # torch's CheckpointException has them by rank; a torch without distributed training lacks the class.
        failures = getattr(one, 'failures', None)
        of_ranks = [failure[0] for failure in failures.values()] if isinstance(failures, Mapping) else []
        waiting += [
            other
            for other in (one.__cause__, one.__context__, *of_ranks)
            if isinstance(other, BaseException) and id(other) not in seen
        ]
    return None
