"""Where results go: looked at before the work, so that nothing is computed that cannot be kept."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from mstkit.errors import UsageError


def output_file(name: str, path: str | os.PathLike[str]) -> Path:
    """The path of a file to be written; its folder is made, and takes files.

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
    if os.path.exists(path) and not os.access(path, os.W_OK):
        raise UsageError(f'{name} {path} cannot be written: it is protected. Give another file.')
    return path


def output_folder(name: str, path: str | os.PathLike[str]) -> Path:
    """The path of a folder to write into; it is made, and takes files.

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
    """Makes a folder, and writes a file that vanishes: only that tells of quotas, mounts and rights alike."""
    made = _first_missing(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if made is not None:
            _remove_empty(folder, made)
        raise UsageError(f'{name} {path} cannot be written: {_reason(folder, error)}.') from error


def _reason(folder: Path, error: OSError) -> str:
    """What stands in the way, and the way out."""
    for part in (folder, *folder.parents):
        if os.path.exists(part) and not os.path.isdir(part):
            return f'{part} is a file, not a folder; remove it, or give another place'
    why = str(error.strerror or error).lower()
    return f'{why}; make {folder} writable, or give another place'


def _first_missing(folder: Path) -> Path | None:
    """The outermost folder that has to be made."""
    missing = [part for part in (folder, *folder.parents) if not os.path.exists(part)]
    return missing[-1] if missing else None


def _remove_empty(folder: Path, outermost: Path) -> None:
    """Takes folders back that were made for nothing."""
    for part in (folder, *folder.parents):
        with contextlib.suppress(OSError):  # it was never made, or somebody else writes there
            part.rmdir()
        if part == outermost:
            return
