"""Converts exceptions while components are built from a config to UsageErrors."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType, TracebackType
from typing import Any

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)

# isort: split
from mmengine.registry import Registry

from mstkit import registry as mstkit_registry
from mstkit.errors import UsageError, nearest

_UNKNOWN = re.compile(r"'?(?P<name>[\w.]+) is not in the (?:[\w.]+::)?(?P<registry>[\w ]+?) registry")
# mmengine takes what is not registered for the path of a Python object, and some words can be no path.
_NO_PATH = re.compile(r'^Failed to get (?P<name>.*)$', re.DOTALL)
# Behind the part come the defaults of whoever builds it.
_UNTYPED = re.compile(r'must contain the key "type", but got (?P<part>.*)')
_KEYWORD = re.compile(r"unexpected keyword argument '(?P<name>\w+)'")
# mmengine's functions that build a component, and their variables that hold its class.
_BUILDERS = {'build_from_cfg': 'obj_cls', 'build_scheduler_from_cfg': 'scheduler_cls'}
_CONFIG_MISTAKES = (KeyError, TypeError, AssertionError, ValueError, OSError)


@contextmanager
def build_guard() -> Iterator[None]:
    """Context in which a component that cannot be built from its config raises UsageError.

    The message for an unknown name has the nearest registered names, for an unknown argument those that the component
    takes. The original exception is kept as ``__cause__``.

    Raises:
        UsageError: instead of the KeyError, TypeError, AssertionError, ValueError, OSError or NotImplementedError of a
            constructor, and of the RuntimeError for a name that none can have, or of torch in a constructor that is
            not ours.
    """
    try:
        yield
    except UsageError:
        raise
    except (*_CONFIG_MISTAKES, NotImplementedError) as error:
        raise UsageError(_explain(error)) from error
    except RuntimeError as error:
        if no_path := _NO_PATH.search(str(error)):
            raise UsageError(f'the config names a component {no_path["name"]!r}: there is none of it') from error
        if not _asked_of_torch(error):
            raise
        raise UsageError(_explain(error)) from error


def _explain(error: Exception) -> str:
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    where = _built_class(error.__traceback__)
    unknown = _UNKNOWN.search(text)
    if unknown:
        return _no_such(unknown['name'], unknown['registry'])
    if untyped := _UNTYPED.search(text):
        return f'a part of the config has no type: {untyped["part"]}. Is a key in it misspelt?'
    keyword = _KEYWORD.search(text)
    if keyword and where is not None:
        accepted = accepted_arguments(where)
        return (
            f'{where.__name__} has no argument {keyword["name"]!r}.{nearest(keyword["name"], accepted)} '
            f'It takes: {", ".join(accepted)}.'
        )
    kind = f'{type(error).__name__}: ' if isinstance(error, KeyError | TypeError | RuntimeError) or not text else ''
    return f'{where.__name__ if where else "the config"} cannot be built: {kind}{text}'


def _asked_of_torch(error: RuntimeError) -> bool:
    """Whether a component that is not ours passed a value on to torch that torch refused."""
    where = _built_class(error.__traceback__)
    ours = where is None or where.__module__.startswith('mstkit.')
    return not ours and type(error) is RuntimeError and 'memory' not in str(error)  # memory: its own sentence, later


def check_registered(component: Any, registry: Registry) -> None:
    """Refuses a component whose type is an unregistered name, for which mmengine's own error is obscure.

    Args:
        component: a config; passes if its type is no name.
        registry: the registry of the name.

    Raises:
        UsageError: with the nearest names.
    """
    kind = component.get('type') if isinstance(component, Mapping) else None
    if isinstance(kind, str) and component_called(kind, registry) is None:
        raise UsageError(_no_such(kind, registry.name))


def component_called(name: str, registry: Registry) -> Any:
    """The component of a name, or None where there is none.

    A registry's own ``get`` raises for names such as ``''`` or ``'.'``, and gives a module for the name of one.
    """
    try:
        found = registry.get(name)
    except (TypeError, ValueError):  # of what imports modules
        return None
    except RuntimeError as error:
        if _NO_PATH.search(str(error)) is None:
            raise
        return None
    return None if isinstance(found, ModuleType) else found


def _no_such(name: str, registry: str) -> str:
    return f'there is no {registry} called {name!r}.{nearest(name.split(".")[-1], registered_names(registry))}'


def registered_names(registry: str) -> set[str]:
    """Every name that a config may use for a kind of component, from mstkit's registry up to mmengine's root.

    Args:
        registry: name of the registry, such as ``model`` or ``data sampler``.
    """
    names: set[str] = set()
    for candidate in vars(mstkit_registry).values():
        if isinstance(candidate, Registry) and candidate.name == registry:
            level: Registry | None = candidate
            while level is not None:
                names.update(level.module_dict)
                level = level.parent
    return names


def accepted_arguments(component: type) -> list[str]:
    """The keyword arguments that a class takes, its bases' too where it passes them on."""
    names: dict[str, None] = {}
    for cls in component.__mro__:
        if '__init__' not in vars(cls) or cls is object:
            continue
        parameters = inspect.signature(vars(cls)['__init__']).parameters.values()
        names.update((p.name, None) for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    names.pop('self', None)
    return list(names)


def _built_class(traceback: TracebackType | None) -> type | None:
    """The innermost class that mmengine was building when the exception was raised."""
    found = None
    while traceback is not None:
        frame = traceback.tb_frame
        built = frame.f_locals.get(_BUILDERS.get(frame.f_code.co_name, ''))
        if inspect.isclass(built):
            found = built
        traceback = traceback.tb_next
    return found
