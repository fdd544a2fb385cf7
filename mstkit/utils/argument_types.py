"""Checks the arguments of components against their type annotations.

Every component that mstkit registers checks its arguments against the annotations of its constructor (``num: int``,
``prob: float | None``, ``branch: Literal['student', 'teacher']``). What an annotation cannot express, such as a lower
bound, the constructor checks with :mod:`mstkit.utils.checks`.
"""

from __future__ import annotations

import collections.abc
import functools
import inspect
import os
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mstkit.errors import UsageError, nearest
from mstkit.utils.checks import check_count, check_flag, check_number, check_one_of

_SIMPLE: dict[Any, tuple[Callable[[str, Any], Any], str]] = {
    int: (lambda name, value: check_count(name, value, -(2**63), 2**63), 'a whole number'),
    float: (check_number, 'a number'),
    bool: (check_flag, 'True or False'),
}
# Whose annotations say what is taken. Many of mmengine's say less (a hook may be None, a backend of the visualizer a
# dict), and so do some of mmdet's and mmseg's.
_EXACT = ('mstkit.', 'mmengine.hooks.', 'mmpretrain.')
CALLED = 'called_by_users'  # set on a class that users know by another name than its own
_MARK = 'holds_to_annotations'
_LISTS = (list, tuple, collections.abc.Sequence, collections.abc.Iterable)


def check_kind(name: str, value: Any, hint: Any) -> None:
    """Refuses a value that does not match a type annotation.

    Lists and tuples are interchangeable; numbers must be finite, True and False are no numbers, whole numbers must fit
    into 64 bits. Unsupported annotations accept every value.

    Args:
        name: name of the setting, for the message.
        value: the value.
        hint: the annotation, resolved.

    Raises:
        UsageError: with the value and what to give instead.
    """
    if not _is(value, hint):
        words = [word for word in _literals(hint) if isinstance(word, str)]
        meant = nearest(value, words) if isinstance(value, str) else ''
        raise UsageError(f'{name} is {value!r}: give {_words(hint)}.{meant}')


def checked(cls: type) -> type:
    """Makes a class check the types of its constructor's arguments; subclasses inherit this."""
    build: Any = cls.__init__  # type: ignore[misc]
    if build is object.__init__ or hasattr(build, _MARK):  # which is set on a function
        return cls

    signature = functools.cache(functools.partial(inspect.signature, build))  # costs more than the check

    @functools.wraps(build)
    def with_checks(self: Any, *args: Any, **settings: Any) -> None:
        _check(cls, signature(), self, args, settings)
        build(self, *args, **settings)

    setattr(with_checks, _MARK, True)
    cls.__init__ = with_checks  # type: ignore[misc]
    return cls


@functools.cache
def argument_kinds(cls: type) -> dict[str, Any]:
    """The annotations of a class's arguments, its bases' too where it passes them on; unknown ones are left out."""
    found: dict[str, Any] = {}
    for kind in cls.__mro__:
        if '__init__' not in vars(kind) or kind is object:
            continue
        build = inspect.unwrap(vars(kind)['__init__'])
        try:
            hints = typing.get_type_hints(build) if kind.__module__.startswith(_EXACT) else {}
        except NameError:  # a name that only a type checker sees
            hints = {}
        parameters = inspect.signature(build).parameters.values()
        for one in parameters:
            if one.name in hints and one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL):
                found.setdefault(one.name, hints[one.name])
        if not any(one.kind is one.VAR_KEYWORD for one in parameters):
            break
    return found


def _check(cls: type, signature: inspect.Signature, self: Any, args: tuple, settings: dict[str, Any]) -> None:
    try:
        given = signature.bind(self, *args, **settings).arguments
    except TypeError:
        return  # wrong number of arguments: Python raises TypeError, which build_guard converts to a UsageError
    kinds = argument_kinds(cls)
    called = getattr(cls, CALLED, type(self).__name__)  # set on few classes
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            given = {**given, **given.get(parameter.name, {})}
    for name, value in given.items():
        if name in kinds:
            check_kind(f'{called}.{name}', value, kinds[name])


def _is(value: Any, hint: Any) -> bool:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is None or hint is type(None):
        return value is None
    if hint in _SIMPLE or origin is typing.Literal:
        try:
            check_one_of('', value, inner) if origin is typing.Literal else _SIMPLE[hint][0]('', value)
        except UsageError:
            return False
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_is(value, one) for one in inner)
    if origin in _LISTS or hint in _LISTS:
        return _is_list(value, origin or hint, inner)
    if origin in (dict, collections.abc.Mapping) or hint in (dict, collections.abc.Mapping):
        return isinstance(value, Mapping) and (not inner or all(_is(one, inner[1]) for one in value.values()))
    if origin is collections.abc.Callable:
        return callable(value)
    plain = origin or hint
    if plain is os.PathLike:
        return isinstance(value, os.PathLike)
    if plain is Any or not isinstance(plain, type):
        return True
    if getattr(plain, '_is_protocol', False):  # typing.is_protocol, from Python 3.13 on
        return True
    return isinstance(value, plain)


def _is_list(value: Any, kind: Any, inner: tuple) -> bool:
    if isinstance(value, (str, bytes, Mapping)) or (not isinstance(value, Sequence) and not _is_array(value)):
        iterable = isinstance(value, collections.abc.Iterable) and not isinstance(value, (str, bytes))
        return iterable and kind is collections.abc.Iterable
    if kind is tuple and inner and Ellipsis not in inner:
        return len(value) == len(inner) and all(map(_is, value, inner))
    return not inner or all(_is(one, inner[0]) for one in value)


def _is_array(value: Any) -> bool:
    """Whether it is a one-dimensional array of NumPy or torch, which is accepted as a list."""
    return getattr(value, 'ndim', 0) == 1 and hasattr(value, 'tolist')  # without importing NumPy or torch


def _literals(hint: Any) -> list[Any]:
    """The values that an annotation lists."""
    if typing.get_origin(hint) is typing.Literal:
        return list(typing.get_args(hint))
    return [word for one in typing.get_args(hint) for word in _literals(one)]


def _listed(words: list[str]) -> str:
    words = list(dict.fromkeys(words))
    return f'{", ".join(words[:-1])} or {words[-1]}' if len(words) > 1 else words[0]


def _words(hint: Any) -> str:
    """What to give, in words."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint in _SIMPLE:
        return _SIMPLE[hint][1]
    if hint is None or hint is type(None):
        return 'None'
    if origin is typing.Literal:
        return _listed(list(map(repr, inner)))
    if origin in (typing.Union, types.UnionType):
        words = [[repr(word) for word in _literals(one)] or [_words(one)] for one in inner]
        return _listed([word for several in words for word in several])
    if origin is tuple and inner and Ellipsis not in inner:
        return f'a list of {len(inner)} ({", ".join(map(_words, inner))})'
    if origin in _LISTS or hint in _LISTS:
        return 'a list' + (f' whose entries are each {_words(inner[0])}' if inner else '')
    known = {str: 'a text', dict: 'a dict', collections.abc.Mapping: 'a dict', os.PathLike: 'a path'}
    plain = origin or hint
    if plain is collections.abc.Callable:
        return 'a function'
    return known.get(plain, f'a {plain.__name__ if isinstance(plain, type) else plain}')
