"""Building a part that has to be of a certain kind."""

from __future__ import annotations

from typing import Any, TypeVar

from mstkit.errors import UsageError
from mstkit.registry import MODELS

Kind = TypeVar('Kind')


def build_of_kind(part: Any, kind: type[Kind], what: str, **sizes: Any) -> Kind:
    """Builds a component from its config, or takes it as it is.

    Args:
        part: the component, or its config.
        kind: what it has to be.
        what: how a message calls it, for example 'a decoder of tokens'.
        sizes: arguments that the config may leave out.

    Raises:
        UsageError: a component of another kind, with those that are of this one.
    """
    named: Any = part.get('type') if isinstance(part, dict) else type(part).__name__
    if not isinstance(part, dict):
        fits = isinstance(part, kind)
    else:
        cls = MODELS.get(named) if isinstance(named, str) else named
        fits = cls is None or (isinstance(cls, type) and issubclass(cls, kind))  # None: what is not known is said below
    if not fits:
        known = sorted(name for name, one in MODELS.module_dict.items() if issubclass(one, kind))
        raise UsageError(f'{named} is not {what}; those that are: {", ".join(known)}')
    return MODELS.build(part, default_args=sizes) if isinstance(part, dict) else part
