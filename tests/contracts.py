"""Values that no argument, or hardly one, can take, and what becomes of them in a constructor."""

from __future__ import annotations

import collections.abc
import contextlib
import inspect
import math
import os
import resource
import signal
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from mstkit.errors import OF_THE_PATH, UsageError
from mstkit.utils.build_errors import build_guard

VALUES: tuple[Any, ...] = (
    -1,
    0,
    1,
    3,
    10**9,
    10**400,
    -0.5,
    0.5,
    1.5,
    1e30,
    math.nan,
    math.inf,
    -math.inf,
    True,
    False,
    None,
    '',
    'text',
    b'text',
    [],
    (1,),
    (1, 2, 3),
    (0.5, 0.1),
    (-1, 2),
    (math.nan, 1.0),
    (True, 1),
    ['text'],
    {},
    {'text': 1},
    object(),
)


@contextlib.contextmanager
def bounded(seconds: int = 5, memory: int = 2 << 30) -> Iterator[None]:
    """Little time and little new memory: what asks for more fails in here, and not the machine.

    Time is the processor's, of which a busy machine takes none away; whatever waits without using any has a minute.
    """

    def stop(*_: Any) -> None:
        raise TimeoutError(f'it takes longer than {seconds} s of the processor, or waits for a minute')

    with open('/proc/self/statm') as sizes:
        used = int(sizes.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    handlers = {number: signal.signal(number, stop) for number in (signal.SIGPROF, signal.SIGALRM)}
    resource.setrlimit(resource.RLIMIT_AS, (used + memory, before[1]))
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.alarm(60)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def arguments(cls: type) -> dict[str, Any]:
    """The arguments of a class with their annotations, its bases' too where it passes them on."""
    found: dict[str, Any] = {}
    for kind in cls.__mro__:
        if '__init__' not in vars(kind) or kind in (object, nn.Module):
            continue
        constructor = vars(kind)['__init__']
        try:
            hints = typing.get_type_hints(constructor)
        except NameError:  # only known to the type checker
            hints = {}
        parameters = inspect.signature(constructor).parameters.values()
        for one in parameters:
            if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY) and one.name != 'self':
                found.setdefault(one.name, hints.get(one.name, Any))
        if not any(one.kind is one.VAR_KEYWORD for one in parameters):
            break
    return found


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of the annotated kind; a number has to be finite, and True is none."""
    if hint is Any or isinstance(hint, str | typing.TypeVar) or hint is inspect.Parameter.empty:
        return True
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin is typing.Literal:
        return any(type(value) is type(one) and value == one for one in inner)
    if hint is None or hint is type(None):
        return value is None
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if origin is tuple and Ellipsis not in inner:
        return isinstance(value, tuple | list) and len(value) == len(inner) and all(map(fits, value, inner))
    if origin in (list, tuple, collections.abc.Sequence):
        is_list = isinstance(value, tuple | list) or (isinstance(value, str) and fits(value, inner[0]))
        return is_list and all(fits(one, inner[0]) for one in value)
    if origin in (dict, collections.abc.Mapping) or hint is dict:
        return isinstance(value, Mapping)
    if origin is collections.abc.Callable or hint is Callable:
        return callable(value)
    if origin is os.PathLike:
        return isinstance(value, os.PathLike)
    return isinstance(value, origin or hint)


def numbers_in(value: Any) -> Iterator[Any]:
    """Every tensor, array and number of a nested result."""
    if isinstance(value, torch.Tensor | np.ndarray | float | int):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from numbers_in(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from numbers_in(one)


@bounded()
def complaint(
    cls: type,
    base: Mapping[str, Any],
    values: Mapping[str, Any],
    hints: Mapping[str, Any],
    use: Callable | None,
    said_as: Mapping[str, str],
) -> str | None:
    """What is wrong with how a class takes some values, within bounds; None where it is right.

    Args:
        cls: the class.
        base: arguments with which it can be built.
        values: the arguments that are tried.
        hints: their annotations.
        use: uses what was built and returns what it computes.
        said_as: how a message calls an argument that it does not call by its name.
    """
    shown = ', '.join(f'{name}={shortened(value)}' for name, value in values.items())
    # What a config's dict lacks is explained where configs are built; there, only the message counts.
    of_configs = any(map(holds_config, values.values()))
    guard = build_guard() if of_configs else contextlib.nullcontext()
    try:
        with guard:
            built = cls(**{**base, **values})
    except UsageError as error:
        said = str(error)
        if '\n' in said and '\n' not in shown:
            return f'{shown}: more than a line: {said[:110]!r}'
        if of_configs or any(name in said or said_as.get(name, name) in said for name in values):
            return None
        return f'{shown}: the refusal does not name it: {said[:110]}'
    except OSError as error:
        # A path that no file can have: every program makes a line of it.
        return None if error.errno in OF_THE_PATH and error.filename is not None else f'{shown}: {error}'
    except Exception as error:
        return f'{shown}: {type(error).__name__}: {str(error)[:80]}'
    if wrong := [name for name, value in values.items() if not fits(value, hints[name])]:
        return f'{shown}: {", ".join(wrong)} accepted'
    if use is None:
        return None
    try:
        results = list(numbers_in(use(built)))
    except UsageError as error:
        if of_configs or any(name in str(error) or said_as.get(name, name) in str(error) for name in values):
            return None
        return f'{shown}: in use, and not named: {str(error)[:110]}'
    except Exception as error:
        return f'{shown}: in use: {type(error).__name__}: {str(error)[:80]}'
    if not all(bool(torch.as_tensor(one).isfinite().all()) for one in results):
        return f'{shown}: not finite'
    return None


def holds_config(value: Any) -> bool:
    """Whether a part is described in a value."""
    return isinstance(value, Mapping) or (isinstance(value, list | tuple) and any(map(holds_config, value)))


def shortened(value: Any) -> str:
    """A value as a line has room for it."""
    return repr(value) if len(repr(value)) <= 40 else f'{repr(value)[:37]}...'
