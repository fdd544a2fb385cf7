"""How messages name a few of many."""

from __future__ import annotations

from collections.abc import Sequence


def first_few(entries: Sequence[object], most: int = 3) -> str:
    """The first entries, separated by commas, with how many there are where that is more.

    Args:
        entries: what the message is about.
        most: how many are named.
    """
    named = ', '.join(map(str, entries[:most]))
    return f'{named}, ... ({len(entries)} in all)' if len(entries) > most else named
