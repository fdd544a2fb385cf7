"""Selects maskers by name, from a table of named configs and the masker of a training config."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from mstkit.errors import UsageError, nearest
from mstkit.models.maskers.masker import Masker
from mstkit.models.maskers.scheduled_maskers import build_masker
from mstkit.registry import MODELS
from mstkit.utils.build_errors import component_called

OWN = 'config'


def choose_maskers(
    named: Mapping[str, dict | None], own: dict | None, wanted: str | None = None
) -> tuple[dict[str, Masker], str | None]:
    """Builds the maskers of the wanted names.

    Args:
        named: configs of maskers by name; entries of None (no masking) are ignored.
        own: the masker of a training config; it is named :data:`OWN` and comes first.
        wanted: names, separated by commas. None for all; ``own`` is then left out if it equals a named one.

    Returns:
        The maskers by name, and the name of the one that equals ``own``, or None.

    Raises:
        UsageError: an unknown name (with the nearest one), or arguments that a masker does not take.
    """
    if isinstance(own, str) and own.lower() == 'none':
        own = None
    available = {OWN: own, **named}
    available = {name: masker for name, masker in available.items() if masker is not None}
    names = list(available) if wanted is None else list(dict.fromkeys(name.strip() for name in wanted.split(',')))
    for name in names:
        if name not in available:
            known = ', '.join(available)
            raise UsageError(f'there is no strategy {name!r}.{nearest(name, available)} The strategies are {known}.')
    built = {name: build_masker(available[name]) for name in names}
    mine = None if own is None else _settings(own)
    same = next((name for name in names if name != OWN and _settings(available[name]) == mine), None)
    if wanted is None and same is not None:
        del built[OWN]
    return {name: masker for name, masker in built.items() if masker is not None}, same


def _settings(masker: Any) -> dict[str, Any]:
    """A masker's class and all its arguments, including defaults."""
    cls: Any = component_called(masker['type'], MODELS)
    given = {name: value for name, value in masker.items() if name not in ('type', '_scope_')}
    defaults = {parameter.name: parameter.default for parameter in inspect.signature(cls).parameters.values()}
    return {'type': cls, **defaults, **given}
