"""Where results go: looked at before the work, so that nothing is computed that cannot be kept."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from mstkit.errors import UsageError


def output_file(name: str, path: str | os.PathLike[str]) -> Path:
    """The path of a file that is going to be written; it is not made yet, nor is its folder.

    Args:
        name: how the user gives it, such as ``--json``.
        path: the file; one of that name may be there, and is replaced later.

    Raises:
        UsageError: no file can be written there; the message says why.
    """
    path = Path(path)
    if os.path.isdir(path):
        raise UsageError(f'{name} {path} is a folder: give the name of a file, such as {path / "results"}.')
    _try(name, path, path.parent)
    return path


def output_folder(name: str, path: str | os.PathLike[str]) -> Path:
    """The path of a folder that is going to be written into; it is not made yet.

    Args:
        name: how the user gives it, such as ``--out`` or ``--work-dir``.
        path: the folder.

    Raises:
        UsageError: no file can be written there; the message says why.
    """
    path = Path(path)
    _try(name, path, path)
    return path


def _try(name: str, path: Path, folder: Path) -> None:
    """Writes a file that vanishes into a folder, or into the one that it will be made in.

    Only that tells of rights, read-only mounts and quotas alike.
    """
    there = next((part for part in (folder, *folder.parents) if os.path.lexists(part)), Path())
    reason = ''
    if not os.path.isdir(there):
        reason = f'{there} is not a folder; remove it, or give another place'
    else:
        try:
            with tempfile.TemporaryFile(dir=there):
                pass
            with contextlib.suppress(FileNotFoundError):
                os.lstat(path)  # which knows how long a name may be
        except OSError as error:
            why = str(error.strerror or error).lower()
            reason = f'{why} in {there}; make that folder writable, or give another place'
    if reason:
        raise UsageError(f'{name} {path} cannot be written: {reason}.')
