"""Opens the folder of an evaluation that reads images of its own beside those of the suite."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

from mstkit.errors import UsageError

Opened = TypeVar('Opened')


def open_own_folder(
    evaluation: str, data: Any, what: str, opener: Callable[[str | os.PathLike[str]], Opened]
) -> Opened:
    """Opens ``data`` of an evaluation.

    Args:
        evaluation: its name in a suite.
        data: the folder that was given, if any.
        what: it is a folder of, for the message.
        opener: reads and checks the folder.

    Raises:
        UsageError: no folder was given, or ``opener`` refuses it; the message begins with the name of the setting.
    """
    if not isinstance(data, str | os.PathLike):
        raise UsageError(f'{evaluation}.data is {data!r}: give the folder of {what}.')
    try:
        return opener(data)
    except UsageError as error:
        raise UsageError(f'{evaluation}.data: {error}') from error
