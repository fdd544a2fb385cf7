"""What a name in a docstring means: an object of ours, by what the module imports, or one of another library."""

from __future__ import annotations

import ast
import builtins
import functools
import importlib
import inspect
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[2] / 'mstkit'


@functools.cache
def imported_names(module: str) -> dict[str, str]:
    """The names that a module of ours imports, also for type checkers alone, with what they stand for."""
    path = PACKAGE.parent / module.replace('.', '/')
    file = path / '__init__.py' if path.is_dir() else path.with_suffix('.py')
    names: dict[str, str] = {}
    for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {alias.asname or alias.name: f'{node.module}.{alias.name}' for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.asname or alias.name: alias.name for alias in node.names}
    return names


@functools.cache
def imported_anywhere() -> dict[str, set[str]]:
    """The names that modules of ours import, with everything that they stand for somewhere."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob('*.py'):
        module = '.'.join(path.relative_to(PACKAGE.parent).with_suffix('').parts).removesuffix('.__init__')
        for name, full in imported_names(module).items():
            found.setdefault(name, set()).add(full)
    return found


def lookup(name: str) -> tuple[bool, Any]:
    """Whether there is what is called so in full, and what it is."""
    parts = name.split('.')
    for count in range(len(parts), 0, -1):
        try:
            value = importlib.import_module('.'.join(parts[:count]))
        except (ImportError, ValueError):
            continue
        try:
            return True, functools.reduce(getattr, parts[count:], value)
        except AttributeError:
            return False, None
    return False, None


@functools.cache
def canonical(name: str) -> str | None:
    """The name of an object where it is defined, given one by which it can be imported; None if there is no such."""
    exists, value = lookup(name)
    if not exists:
        return None
    if (inspect.isclass(value) or inspect.isroutine(value)) and value.__module__ and '<' not in value.__qualname__:
        return f'{value.__module__}.{value.__qualname__}'
    owner, _, last = name.rpartition('.')
    exists, value = lookup(owner)
    if exists and inspect.ismodule(value) and owner.startswith('mstkit') and last in imported_names(owner):
        return canonical(imported_names(owner)[last])
    return f'{value.__module__}.{value.__qualname__}.{last}' if exists and inspect.isclass(value) else name


def meaning(name: str, module: str | None) -> str | None:
    """The full name of what is written in a module as ``name``; None if it means nothing there."""
    first, dot, rest = name.partition('.')
    candidates = [name]
    if module and first != 'mstkit':  # that is a full name already
        imported = imported_names(module)
        candidates = [f'{imported[first]}{dot}{rest}'] if first in imported else [f'{module}.{name}', name]
    for candidate in candidates:
        if (full := canonical(candidate)) is not None:
            return full
    return None


def is_of_another_library(name: str) -> bool:
    """Whether Python or another library has it; a short name counts if it is imported from one somewhere in mstkit."""
    first, dot, rest = name.partition('.')
    if hasattr(builtins, first):
        return True
    fulls = {f'{full}{dot}{rest}' for full in imported_anywhere().get(first, set())} | {name}
    return any(not full.startswith('mstkit') and lookup(full)[0] for full in fulls)


def is_a_field(name: str, module: str, cls: str) -> bool:
    """Whether instances of a class of ours have an attribute that has no docstring of its own."""
    exists, value = lookup(f'{module}.{cls}')
    return exists and (name in inspect.get_annotations(value) or f'self.{name}' in inspect.getsource(value))
