"""Checks output paths before the work, so that results are not lost because they cannot be written."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path

from mstkit.errors import UsageError


def file_name(words: str) -> str:
    """Words, such as the name of a network, as the name of a file without its suffix."""
    return re.sub(r'[^\w.-]+', '_', words)


def output_file(name: str, path: str | os.PathLike[str]) -> Path:
    """Checks the path of a file that will be written; creates neither the file nor its folder.

    Args:
        name: name of the option, such as ``--json``.
        path: the file; an existing one will be replaced.

    Raises:
        UsageError: no file can be written there; the message says why.
    """
    path = Path(path)
    if os.path.isdir(path):
        raise UsageError(f'{name} {path} is a folder: give the name of a file, such as {path / "results"}.')
    _try(name, path, path.parent)
    return path


def output_folder(name: str, path: str | os.PathLike[str]) -> Path:
    """Checks the path of a folder that will be written into; does not create it.

    Args:
        name: name of the option, such as ``--out`` or ``--work-dir``.
        path: the folder.

    Raises:
        UsageError: no file can be written there; the message says why.
    """
    path = Path(path)
    _try(name, path, path)
    return path


def _try(name: str, path: Path, folder: Path) -> None:
    """Writes a temporary file into a folder, or into its closest existing parent.

    This is the only reliable test for permissions, read-only mounts and quotas.
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
