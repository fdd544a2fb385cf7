"""Files whose names always stand for whole ones."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

PARTIAL = '.partial'


def write_atomically(path: str | os.PathLike[str], content: bytes | Callable[[BinaryIO], object]) -> None:
    """Writes a file so that its name always stands for a whole one, also when the machine dies in between.

    The content goes to a temporary file in the same folder, which is flushed to the disk and then renamed.

    Args:
        path: the file; its folder is made where missing.
        content: the bytes, or a function that writes them to an open file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.name}.{os.getpid()}{PARTIAL}')
    try:
        with open(partial, 'wb') as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if hasattr(os, 'O_DIRECTORY'):  # the rename itself has to reach the disk too
        folder = os.open(path.parent, os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_leftovers(folder: str | os.PathLike[str]) -> list[Path]:
    """Removes what killed runs left half-written in a folder, and names it."""
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
