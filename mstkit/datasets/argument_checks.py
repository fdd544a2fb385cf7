"""Checks of settings that come from a config or the command line, with messages for whoever wrote them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, TypeVar

from mstkit.errors import UsageError, nearest

Settings = TypeVar('Settings')


def settings_from(kind: type[Settings], values: Any, where: str) -> Settings:
    """Builds a dataclass from a config's dict.

    Args:
        kind: the dataclass; its first field is ``where``, for its own messages.
        values: the dict.
        where: how the user finds the dict, for messages.

    Raises:
        UsageError: ``values`` is no dict, or has a key that the dataclass has no field for.
    """
    known = [field.name for field in dataclasses.fields(kind) if field.name != 'where']  # type: ignore[arg-type]
    if not isinstance(values, Mapping):
        raise UsageError(f'{where} is {values!r}: give a dict with some of {", ".join(known)}.')
    for key in values:
        if key not in known:
            hint = nearest(str(key), known) or f' It knows {", ".join(known)}.'
            raise UsageError(f'{where} has no setting {key!r}.{hint}')
    return kind(where=where, **values)  # type: ignore[call-arg]


def check_number(name: str, value: Any, low: float, high: float = math.inf) -> float:
    """The value as a float, when it is a number in [low, high]; otherwise a UsageError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        limits = f'of at least {low:g}' if high == math.inf else f'in [{low:g}, {high:g}]'
        raise UsageError(f'{name} is {value!r}: give a number {limits}.')
    return float(value)


def check_count(name: str, value: Any, low: int) -> int:
    """The value, when it is a whole number of at least ``low``; otherwise a UsageError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise UsageError(f'{name} is {value!r}: give a whole number of at least {low}.')
    return value


def check_range(name: str, value: Any, low: float, high: float = math.inf) -> tuple[float, float]:
    """The value as two floats, when they are numbers with low <= first <= second <= high; otherwise a UsageError."""
    if isinstance(value, str) or not hasattr(value, '__len__') or len(value) != 2:
        raise UsageError(f'{name} is {value!r}: give two numbers, the smallest and the largest.')
    first, second = (check_number(f'{name}[{i}]', entry, low, high) for i, entry in enumerate(value))
    if first > second:
        raise UsageError(f'{name} is {tuple(value)!r}: give the smaller number first.')
    return first, second
