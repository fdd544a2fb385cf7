"""Packages that only some commands need."""

from __future__ import annotations

import importlib
from typing import Any

from mstkit.errors import UsageError


def needed(name: str, extra: str) -> Any:
    """Imports a package that is not always installed.

    Args:
        name: of the module.
        extra: of mstkit, that brings it.

    Raises:
        UsageError: it is not installed, with the command that installs it; or it does not import, with the reason.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition('.')[0]:
            raise UsageError(f'{name} does not import: {error}') from error
        raise UsageError(
            f'{name} is not installed: run pip install "mstkit[{extra}]", or in a clone pip install -e ".[{extra}]".'
        ) from error
    except Exception as error:  # a broken build raises nearly anything
        raise UsageError(f'{name} does not import: {" ".join(str(error).split())}') from error
