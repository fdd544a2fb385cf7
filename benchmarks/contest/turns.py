"""The order of turns, and what is compared of them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import TypeVar

T = TypeVar('T')


def in_turn(names: Iterable[T], turn: int) -> list[T]:
    """The contestants in the order of a turn, which every other turn is reversed: nobody always comes first."""
    ordered = list(names)
    return ordered if turn % 2 == 0 else ordered[::-1]


def median_ratio(values: Sequence[float], reference: Sequence[float]) -> float:
    """The median of the ratios of the turns, which is not changed by what slows down a whole turn."""
    return statistics.median(one / other for one, other in zip(values, reference, strict=True))
