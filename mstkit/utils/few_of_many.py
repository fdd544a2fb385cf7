"""Lists the first few of many entries in messages."""

from __future__ import annotations

from collections.abc import Sequence


def first_few(entries: Sequence[object], most: int = 3) -> str:
    """The first entries, separated by commas, and the total number if there are more.

    Args:
        entries: all entries.
        most: number of entries to list.
    """
    named = ', '.join(map(str, entries[:most]))
    return f'{named}, ... ({len(entries)} in all)' if len(entries) > most else named
