"""Checks of values that come from a config or the command line: one function for each kind of value.

Each takes the name of the setting (``DINONeck.out_dim``, ``--epochs``) and its value, returns the value, or raises
:class:`UsageError` with both and what to give instead. ``True``, ``False``, nan and inf are not accepted as numbers;
NumPy's numbers are.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from mstkit.errors import UsageError, nearest

Settings = TypeVar('Settings')
Value = TypeVar('Value')

# More channels, layers' widths or pixels along a side than anybody trains with. Beyond this a memory allocation fails
# far from the value that asked for it.
LARGEST_SIZE = 2**20
LARGEST_COUNT = 2**63 - 1  # that a tensor of whole numbers holds


def settings_from(kind: type[Settings], values: Any, where: str) -> Settings:
    """Builds a dataclass from a config's dict.

    Args:
        kind: the dataclass; its first field is ``where``, the name of the setting for its own messages.
        values: the dict.
        where: name of the setting, for messages.

    Raises:
        UsageError: ``values`` is no dict, has an unknown key, or lacks a required one.
    """
    fields = {field.name: field for field in dataclasses.fields(kind) if field.name != 'where'}  # type: ignore[arg-type]
    known = list(fields)
    if not isinstance(values, Mapping):
        raise UsageError(f'{where} is {values!r}: give a dict with some of {", ".join(known)}.')
    for key in values:
        if key not in known:
            hint = nearest(str(key), known) or f' It knows {", ".join(known)}.'
            raise UsageError(f'{where} has no setting {key!r}.{hint}')
    for name, field in fields.items():
        has_default = not (field.default is field.default_factory is dataclasses.MISSING)
        if name not in values and not has_default:
            raise UsageError(f'{where} has no {name}: give one.')
    return kind(where=where, **values)  # type: ignore[call-arg]


def check_number(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    above: float = -math.inf,
    below: float = math.inf,
) -> float:
    """The value as a float, when it is a finite number within the bounds; otherwise a UsageError.

    Args:
        name: what the user calls it.
        value: what was given.
        low: the smallest allowed value.
        high: the largest allowed value.
        above: a bound that the value must exceed.
        below: a bound that the value must stay under.
    """
    number = _finite(value)
    if number is not None and low <= number <= high and above < number < below:
        return number
    raise UsageError(f'{name} is {value!r}: give a number{_limits(low, high, above, below)}.')


def check_probability(name: str, value: Any) -> float:
    """The value as a float, when it is in [0, 1]; otherwise a UsageError."""
    return check_number(name, value, 0, 1)


def check_temperature(name: str, value: Any) -> float:
    """The value as a float, when logits can be divided by it in float32; otherwise a UsageError."""
    return check_number(name, value, 1e-6, 1e6)


def check_count(name: str, value: Any, low: int, high: float = math.inf) -> int:
    """The value as an int, when it is a whole number in [low, high]; otherwise a UsageError. 2.0 is not whole here."""
    if isinstance(value, numbers.Integral) and not isinstance(value, bool) and low <= (whole := int(value)) <= high:
        if whole <= LARGEST_COUNT:
            return whole
        high = LARGEST_COUNT
    raise UsageError(f'{name} is {value!r}: give a whole number{_limits(low, high)}.')


def check_workers(name: str, value: Any) -> int:
    """The value as an int, when it is a sensible number of loader processes on this machine; otherwise a UsageError.

    More than one per CPU is useful with a slow disk, but hundreds on a small machine exhaust its memory.
    """
    return check_count(name, value, 0, max(128, 8 * (os.cpu_count() or 1)))


def check_size(name: str, value: Any, low: int = 1, high: int = LARGEST_SIZE) -> int:
    """The value as an int, when it can be a number of channels or pixels; otherwise a UsageError."""
    return check_count(name, value, low, high)


def check_range(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    above: float = -math.inf,
    below: float = math.inf,
) -> tuple[float, float]:
    """The value as two floats, when they are numbers within the bounds and in order; otherwise a UsageError."""
    if not _is_listed(value) or _length(value) != 2:
        raise UsageError(f'{name} is {value!r}: give two numbers, the smallest and the largest.')
    first, second = (
        check_number(f'{name}[{i}]', value[i], low, high, above=above, below=below) for i in range(len(value))
    )
    if first > second:
        raise UsageError(f'{name} is {tuple(value)!r}: give the smaller number first.')
    return first, second


def check_list(name: str, value: Any, check: Callable[..., Value], *args: Any, **bounds: Any) -> list[Value]:
    """The value as a list of at least one, when every entry passes a check of this module; otherwise a UsageError.

    Args:
        name: what the user calls it.
        value: a list or a tuple.
        check: for the entries, such as :func:`check_count`.
        args: what it takes besides name and value.
        bounds: likewise.
    """
    if not _is_listed(value) or not _length(value):
        raise UsageError(f'{name} is {value!r}: give a list of at least one.')
    return [check(f'{name}[{i}]', value[i], *args, **bounds) for i in range(len(value))]


def check_one_of(name: str, value: Any, known: Iterable[Value]) -> Value:
    """The value, when it is one of the known ones (1 and True are not the same); otherwise a UsageError."""
    known = list(known)
    for word in known:
        if type(word) is type(value) and word == value:
            return word
    hint = nearest(value, [word for word in known if isinstance(word, str)]) if isinstance(value, str) else ''
    words = [repr(word) for word in known]
    listed = f'{", ".join(words[:-1])} or {words[-1]}' if len(words) > 1 else words[0]
    raise UsageError(f'{name} is {value!r}: give {listed}.{hint}')


def check_flag(name: str, value: Any) -> bool:
    """The value, when it is True or False; otherwise a UsageError. Text such as 'False' would count as true."""
    if isinstance(value, bool):
        return value
    raise UsageError(f'{name} is {value!r}: give True or False.')


def check_text(name: str, value: Any) -> str:
    """The value, when it is a text that is not empty; otherwise a UsageError."""
    if isinstance(value, str) and value.strip():
        return value
    raise UsageError(f'{name} is {value!r}: give a text that is not empty.')


def check_names(name: str, value: Any) -> list[str]:
    """The value as a list, when it is a list of texts; otherwise a UsageError. One text alone is a mistake."""
    if isinstance(value, str):
        raise UsageError(f'{name} is {value!r}: give a list, [{value!r}].')
    return check_list(name, value, check_text)


def check_dict(name: str, value: Any) -> Mapping:
    """The value, when it is a dict; otherwise a UsageError."""
    if isinstance(value, Mapping):
        return value
    raise UsageError(f'{name} is {value!r}: give a dict.')


def _finite(value: Any) -> float | None:
    """The value as a float; None where it is no number, not finite, or whole and too large for a float."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _is_listed(value: Any) -> bool:
    """Whether a value has numbered entries: a list, a tuple, or another package's array, which is no ``Sequence``."""
    # Neither numpy nor torch is imported here.
    return not isinstance(value, (str, bytes, Mapping)) and hasattr(value, '__getitem__')


def _length(value: Any) -> int:
    try:
        return len(value)
    except TypeError:  # an array without dimensions
        return 0


def _limits(low: float, high: float, above: float = -math.inf, below: float = math.inf) -> str:
    """The bounds in words, with a space before them: `` in [0, 1]``, `` above 0``."""
    bounds = []
    if low > -math.inf and high < math.inf:
        bounds.append(f'in [{low:.10g}, {high:.10g}]')
    elif low > -math.inf:
        bounds.append(f'of at least {low:.10g}')
    elif high < math.inf:
        bounds.append(f'of at most {high:.10g}')
    if above > -math.inf:
        bounds.append(f'above {above:.10g}')
    if below < math.inf:
        bounds.append(f'below {below:.10g}')
    return f' {" and ".join(bounds)}' if bounds else ''
