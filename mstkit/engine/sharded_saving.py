"""Writes the checkpoint of a sharded training: every process its own parts, side by side, in one step."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine import dist

from mstkit.engine import checkpointing
from mstkit.files import PARTIAL
from mstkit.interop.sharded_checkpoint import REST, SUFFIX, take_tensors

_SPREAD = ('state_dict', 'optimizer')


def save_sharded(checkpoint: Mapping[str, Any], path: Path) -> Path:
    """Writes a folder; called by all processes, which have to see the same file system.

    The folder appears under its name when all processes have written theirs: it is whole, or not there.

    Args:
        checkpoint: like an ordinary one, with spread tensors in ``state_dict`` and ``optimizer``.
        path: its name; the suffix becomes ``.dcp``.

    Returns:
        The folder.
    """
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
    save(tensors, storage_writer=FileSystemWriter(partial))
    if dist.is_main_process():
        checkpointing.save(rest, partial / REST)
        old = path.with_name(f'.{path.name}.old{PARTIAL}')
        if path.exists():
            path.rename(old)
        partial.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    dist.barrier()
    return path
