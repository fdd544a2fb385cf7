"""Formatting of numbers, durations and lists as text."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

NOTHING = '–'


def slug(text: str) -> str:
    """Turns text into a name for an HTML anchor."""
    return re.sub(r'[^a-z0-9]+', '-', text.lower()).strip('-') or 'x'


def number(value: float | None, digits: int = 4) -> str:
    """A number with ``digits`` significant digits, without trailing zeros; a dash for None."""
    if value is None:
        return NOTHING
    if not math.isfinite(value):
        return 'not a number' if math.isnan(value) else 'infinite'
    text = f'{value:.{digits}g}'
    if 'e' in text:
        mantissa, exponent = text.split('e')
        return f'{int(float(value))}' if 0 < int(exponent) < 7 else f'{mantissa}e{int(exponent)}'
    return text


def duration(seconds: float) -> str:
    """A duration in seconds, minutes, hours or days."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f'{seconds:.0f} s'
    if minutes < 90:
        return f'{minutes} min'
    hours = round(seconds / 3600, 1)
    return f'{hours:g} h' if hours < 48 else f'{seconds / 86400:.1f} days'


def several(items: Sequence[str]) -> str:
    """Lists words: ``a, b and c``."""
    return items[0] if len(items) == 1 else f'{", ".join(items[:-1])} and {items[-1]}' if items else ''


def sentence(text: str) -> str:
    """Capitalizes the first letter."""
    return text[:1].upper() + text[1:]


def plain(value: object) -> str:
    """A value of a config as text."""
    return f'{value:g}' if isinstance(value, float) else str(value)
