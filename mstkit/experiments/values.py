"""The words of ``--vary KEY=VALUE,VALUE``: cut at the commas that separate values, and read as Python."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from mstkit.errors import UsageError

_BARE_WORD = re.compile(r'[\w./:+@~-]+')
_WORDS = {'true': True, 'false': False, 'none': None}


def split_values(text: str) -> list[str]:
    """Cuts at commas, but not at those inside brackets or quotes.

    Raises:
        UsageError: brackets or quotes that do not close, or nothing between two commas.
    """
    values, depth, quote, start = [], 0, '', 0
    for place, character in enumerate(text):
        if quote:
            quote = '' if character == quote else quote
        elif character in '"\'':
            quote = character
        elif character in '([{':
            depth += 1
        elif character in ')]}':
            depth -= 1
        elif character == ',' and depth == 0:
            values.append(text[start:place].strip())
            start = place + 1
    values.append(text[start:].strip())
    if depth or quote:
        raise UsageError(f'--vary: brackets or quotes in {text!r} do not close.')
    if '' in values:
        raise UsageError(f'--vary: {text!r} has an empty value; values are separated by single commas.')
    return values


def read_value(text: str) -> Any:
    """Reads a Python literal; a bare word that is none, such as ``bf16``, is a string.

    Raises:
        UsageError: neither of the two.
    """
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pass
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _BARE_WORD.fullmatch(text):
        return text
    raise UsageError(f'--vary: {text!r} is no Python value: give a number, a string, a list, a tuple or a dict.')


def check_kind(key: str, value: Any, old: Any) -> None:
    """Refuses a value that cannot stand where the old one stood; catches ``lr=1e-3x`` before hours of training.

    Raises:
        UsageError: a word in place of a number, or neither a dict nor None in place of a component.
    """
    if isinstance(old, int | float) and isinstance(value, str):
        raise UsageError(f'--vary {key}: the config has the number {old!r} there, and {value!r} is none.')
    if isinstance(old, Mapping) and value is not None and not isinstance(value, Mapping):
        raise UsageError(f'--vary {key}: the config has a dict there; give a dict or None, not {value!r}.')
