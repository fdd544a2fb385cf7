"""Builds a component and checks that it is of the expected base class."""

from __future__ import annotations

from typing import Any, TypeVar

from mstkit.errors import UsageError
from mstkit.registry import MODELS
from mstkit.utils.build_errors import component_called

Kind = TypeVar('Kind')


def build_of_kind(part: Any, kind: type[Kind], what: str, **sizes: Any) -> Kind:
    """Builds a component from its config; a component is returned unchanged.

    Args:
        part: the component, or its config.
        kind: the expected base class.
        what: the kind in words, for the message, for example 'a decoder of tokens'.
        sizes: defaults for arguments that the config leaves out.

    Raises:
        UsageError: a component of another base class; the message lists the registered ones.
    """
    named: Any = part.get('type') if isinstance(part, dict) else type(part).__name__
    if not isinstance(part, dict):
        fits = isinstance(part, kind)
    else:
        cls = component_called(named, MODELS) if isinstance(named, str) else named
        fits = cls is None or (isinstance(cls, type) and issubclass(cls, kind))  # None: unknown, MODELS.build raises
    if not fits:
        known = sorted(name for name, one in MODELS.module_dict.items() if issubclass(one, kind))
        raise UsageError(f'{named} is not {what}; those that are: {", ".join(known)}')
    return MODELS.build(part, default_args=sizes) if isinstance(part, dict) else part
