"""Values drawn by an argument's annotation, near and beyond what it can be, several arguments at a time."""

from __future__ import annotations

import collections.abc
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any

import hypothesis
from hypothesis import strategies
from hypothesis.strategies import SearchStrategy

from .components import ALL, CLASSES, OTHER_WORDS, taken_by
from .contracts import VALUES, complaint

# What lies between is legal somewhere and takes all memory: whether there is enough is not a question of the argument.
NUMBERS = strategies.one_of(
    strategies.integers(-2, 17), strategies.sampled_from((32, 64, 10**9, 2**31, 2**63, 10**400, -(10**9), -(2**63)))
)
# A training on the CPU flushes subnormal numbers to zero, where hypothesis would not draw them; one is named below.
FRACTIONS = strategies.one_of(
    strategies.floats(-0.25, 1.25, allow_subnormal=False),
    strategies.floats(allow_subnormal=False),
    strategies.integers(-1, 3),
    strategies.sampled_from((0.0, -0.0, 1.0, sys.float_info.min, 5e-324, 1e-12, 1e6, sys.float_info.max)),
)
WORDS = strategies.one_of(strategies.sampled_from(('', ' ', '0', 'none', 'None', '../up', 'a/b')), strategies.text())
ANYTHING = strategies.sampled_from(VALUES)


class Found(Exception):
    """What a generated value did that it should not."""


def drawn_by(hint: Any, at: Any) -> SearchStrategy[Any]:
    """Values of an annotated kind.

    Args:
        hint: the annotation.
        at: the value in arguments with which the component can be built; dicts are made from it.
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return strategies.one_of(*(drawn_by(one, at) for one in inner))
    if origin is typing.Literal:
        # As it is written, and as somebody would misspell it.
        words = [one for one in inner if isinstance(one, str)]
        wrong = [word for one in words for word in (one.upper(), one[:-1], f'{one} ')]
        return strategies.sampled_from([*inner, *wrong])
    if hint is None or hint is type(None):
        return strategies.none()
    if hint is bool:
        return strategies.booleans()
    if hint is int:
        return NUMBERS
    if hint is float:
        return FRACTIONS
    if hint is str:
        return WORDS
    if origin is tuple and Ellipsis not in inner:
        return strategies.tuples(*(drawn_by(one, None) for one in inner))
    if origin in (list, tuple, collections.abc.Sequence):
        return strategies.lists(drawn_by(inner[0], None), max_size=4)
    if (origin or hint) in (dict, collections.abc.Mapping) and isinstance(at, Mapping) and at:
        return changed(at)
    return ANYTHING


def changed(config: Mapping[str, Any]) -> SearchStrategy[dict[str, Any]]:
    """A part's dict with one key too many, too few, misspelled or of another value."""

    def misspelled(key: str) -> dict[str, Any]:
        return {name if name != key else f'{name}s': value for name, value in config.items()}

    def without(key: str) -> dict[str, Any]:
        return {name: value for name, value in config.items() if name != key}

    keys = strategies.sampled_from(sorted(config))
    # Without its sizes a backbone has those of the papers, which take longer than a case may.
    spared = strategies.sampled_from(sorted(set(config) - {'arch'}) or sorted(config))
    changes = [
        keys.map(misspelled),
        spared.map(without),
        strategies.tuples(keys, ANYTHING).map(lambda pair: {**config, pair[0]: pair[1]}),
    ]
    if isinstance(config.get('type'), str):
        names = strategies.sampled_from((config['type'][:-1], config['type'].lower()))
        changes.append(names.map(lambda name: {**config, 'type': name}))
    return strategies.one_of(*changes)


def arguments_of(name: str) -> SearchStrategy[dict[str, Any]]:
    """One to three arguments of a component: two thirds of them by their annotations, the rest anything."""
    base, _ = ALL[name]
    fitting = {one: drawn_by(hint, base.get(one)) for one, hint in taken_by(name).items()}
    drawn = {one: strategies.one_of(values, values, ANYTHING) for one, values in fitting.items()}
    chosen = strategies.lists(strategies.sampled_from(sorted(drawn)), min_size=1, max_size=3, unique=True)
    return chosen.flatmap(lambda names: strategies.fixed_dictionaries({one: drawn[one] for one in names}))


def fault_with(name: str, count: int, seed: int) -> tuple[int, str | None]:
    """Tries generated arguments of a component, until one shows a fault.

    Returns:
        How many were tried, and the fault with the simplest arguments that show it.
    """
    cls, (base, use) = CLASSES[name], ALL[name]
    tried = 0

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(arguments_of(name))
    def check(values: dict[str, Any]) -> None:
        nonlocal tried
        tried += 1
        if said := complaint(cls, base, values, taken_by(name), use, OTHER_WORDS.get(name, {})):
            raise Found(said)

    try:
        check()
    except Found as found:
        return tried, f'{name}: {found}'
    return tried, None
