"""What was fetched from elsewhere: checked by its hash, unpacked into a folder that is complete or not there."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mstkit.errors import UsageError


def check_sha256(file: Path, sha256: str, what: str) -> None:
    """Compares the hash of a file.

    Args:
        file: the file.
        sha256: what it has to hash to, in hexadecimal digits.
        what: what it has to be, for the message.

    Raises:
        UsageError: another file, or one that cannot be read.
    """
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f'{file} cannot be read ({error.strerror}): give {what}') from error
    if digest != sha256:
        raise UsageError(f'{file} has the SHA-256 {digest}, not {sha256}: it is not {what}')


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder that is complete or not there: the one to write into gets its name when the context ends well.

    Args:
        folder: does not exist yet, or is empty.

    Yields:
        A folder beside it, which exists; it goes if the context does not end well.
    """
    # Of this process alone: two that shared it could take each other's half for a whole.
    unfinished = folder.with_name(f'.{folder.name}.{os.getpid()}.unfinished')
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        os.replace(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
