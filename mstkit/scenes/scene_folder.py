"""The folder of drawn files, which a stamp in it marks as such, so that they are completed and never mixed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from mstkit.errors import UsageError
from mstkit.utils.files import write_atomically


def claim_folder(folder: Path, stamp: str, arguments: Mapping[str, int]) -> None:
    """Makes sure that a folder is empty, or holds files of the same arguments; then writes the stamp.

    Args:
        folder: created if missing.
        stamp: name of the file that says what the others were drawn from.
        arguments: what that is.

    Raises:
        UsageError: the folder holds something else.
    """
    file = folder / stamp
    if not file.exists() and folder.exists() and any(folder.iterdir()):
        raise UsageError(f'{folder} holds something else: choose another folder.')
    try:
        found = json.loads(file.read_text(encoding='utf-8')) if file.exists() else arguments
    except ValueError:
        raise UsageError(f'{file} says nothing about scenes: choose another folder.') from None
    if found != arguments:
        raise UsageError(f'{folder} holds other scenes ({found} instead of {arguments}): choose another folder.')
    # Before the other files, so that the folder is known for what it is after an interruption.
    write_atomically(file, (json.dumps(arguments) + '\n').encode())
