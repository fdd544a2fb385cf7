"""Parses ``--vary`` into axes, and expands these into a grid of choices."""

from __future__ import annotations

import ast
import copy
import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mstkit.engine.config.config_options import find, keep_given
from mstkit.engine.launch.launch import read_config
from mstkit.errors import UsageError, nearest
from mstkit.experiments.config_keys import check_key, replace

_LONGEST_FOLDER = 80
_BARE_WORD = re.compile(r'[\w./:+@~-]+')
_WORDS = {'true': True, 'false': False, 'none': None}


@dataclass(frozen=True)
class Axis:
    """One varied key with its values.

    Attributes:
        key: the dotted path.
        values: values for the config, by their names in tables.
        named: the names are from the table of named choices.
    """

    key: str
    values: dict[str, Any]
    named: bool

    @property
    def keys(self) -> list[str]:
        """The dotted paths that it sets; see :func:`keys_of`."""
        return keys_of(self.key)


@dataclass(frozen=True)
class Choice:
    """One row of the table: a value for every key that is varied.

    Attributes:
        name: in tables, plots and messages.
        words: the name of each value, by key.
        values: the values for the config, by key.
    """

    name: str
    words: dict[str, str]
    values: dict[str, Any]

    @property
    def folder(self) -> str:
        """The name of its folder, unique and independent of the other choices."""
        clean = re.sub(r'[^A-Za-z0-9.=+~-]+', '_', self.name.replace(', ', '_')).strip('._')[:_LONGEST_FOLDER]
        if clean == self.name.replace(', ', '_'):
            return clean
        return f'{clean}-{hashlib.sha256(self.name.encode()).hexdigest()[:6]}'

    def applied_to(self, config: Config) -> Config:
        """A copy of a config with the values of this choice."""
        changed = copy.deepcopy(config)
        for key, value in self.values.items():
            paths = keys_of(key)
            for path in paths:
                keep_given(changed, path)
                replace(changed, path, value if len(paths) == 1 else value[path.rpartition('.')[2]])
        return changed


def keys_of(key: str) -> list[str]:
    """The dotted paths that a varied key sets: two with ``model.masker+guide``, else the key itself."""
    parent, dot, names = key.rpartition('.')
    return [f'{parent}{dot}{name}' for name in names.split('+')]


def read_table(path: str | Path) -> dict[str, dict[str, Any]]:
    """Reads the named choices, by config key and then by name."""
    return {key: dict(named) for key, named in read_config(path)['choices'].items()}


def parse_axes(words: Sequence[str], config: Config, table: Mapping[str, Mapping[str, Any]]) -> list[Axis]:
    """Reads every ``KEY=VALUE,VALUE`` and checks it against a config.

    Args:
        words: one per ``--vary``.
        config: the config that is going to be varied.
        table: the named choices.

    Raises:
        UsageError: an unknown key or choice (with the nearest), an impossible value, or one that is named twice.
    """
    axes: list[Axis] = []
    for word in words:
        key, equals, text = word.partition('=')
        key = key.strip()
        if not equals or not key:
            raise UsageError(f'--vary {word}: give KEY=VALUE,VALUE, for example model.masker=none,mst.')
        if '+' in key and key not in table:
            raise UsageError(f'--vary {key}: keys are set together by named choices alone.{nearest(key, table)}')
        for axis in axes:
            for one, other in itertools.product(axis.keys, keys_of(key)):
                if f'{one}.'.startswith(f'{other}.') or f'{other}.'.startswith(f'{one}.'):
                    raise UsageError(f'--vary {key}: {axis.key} is varied too, and one is a part of the other.')
        for path in keys_of(key):
            check_key(config, path)
        axes.append(_axis(key, split_values(text), config, table.get(key)))
    if not axes:
        raise UsageError('nothing is varied: give --vary KEY=VALUE,VALUE.')
    return axes


def _axis(key: str, texts: list[str], config: Config, named: Mapping[str, Any] | None) -> Axis:
    values: dict[str, Any] = {}
    for text in texts:
        if named is None:
            value = read_value(text)
            check_kind(key, value, find(config, key)[1])
            name = value if isinstance(value, str) else repr(value)
        else:
            name = text
            if name not in named:
                raise UsageError(
                    f'--vary {key}={text}: there is no choice {text!r}.{nearest(text, named)} '
                    f'The choices are {", ".join(named)}.'
                )
            value = named[name]
        if name in values:
            raise UsageError(f'--vary {key}: {name} is named twice.')
        values[name] = value
    return Axis(key, values, named is not None)


def expand(axes: Sequence[Axis]) -> list[Choice]:
    """The product of the axes; the last one changes fastest."""
    short = {axis.key: _short(axis.key) for axis in axes}
    if len(set(short.values())) < len(axes):
        short = {axis.key: axis.key for axis in axes}
    alone = {axis.key for axis in axes if axis.named and sum(other.named for other in axes) == 1}
    choices = []
    for combination in itertools.product(*(axis.values for axis in axes)):
        words = dict(zip(short, combination, strict=True))
        name = ', '.join(word if key in alone else f'{short[key]}={word}' for key, word in words.items())
        choices.append(Choice(name, words, {axis.key: axis.values[words[axis.key]] for axis in axes}))
    return choices


def _short(key: str) -> str:
    """The end of a key from its last part that is neither an index nor ``type``."""
    parts = key.split('.')
    start = len(parts) - 1
    while start and (parts[start].isdigit() or parts[start] == 'type'):
        start -= 1
    return '.'.join(parts[start:])


def split_values(text: str) -> list[str]:
    """Splits text at commas, but not inside brackets or quotes.

    Raises:
        UsageError: brackets or quotes are not closed, or a value is empty.
    """
    values, depth, quote = [''], 0, ''
    for character in text:
        if character == ',' and not (depth or quote):
            values.append('')
            continue
        values[-1] += character
        if quote:
            quote = '' if character == quote else quote
        elif character in '"\'':
            quote = character
        else:
            depth += (character in '([{') - (character in ')]}')
    values = [value.strip() for value in values]
    if depth or quote:
        raise UsageError(f'--vary: brackets or quotes in {text!r} do not close.')
    if '' in values:
        raise UsageError(f'--vary: {text!r} has an empty value; values are separated by single commas.')
    return values


def read_value(text: str) -> Any:
    """Reads a Python literal, or a bare word such as ``bf16`` as a string.

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
    """Refuses a value of another kind than the old one, such as ``lr=1e-3x``, before hours of training.

    Raises:
        UsageError: a string instead of a number, or neither a dict nor None instead of a component.
    """
    if isinstance(old, int | float) and isinstance(value, str):
        raise UsageError(f'--vary {key}: the config has the number {old!r} there, and {value!r} is not a number.')

    if isinstance(old, Mapping) and value is not None and not isinstance(value, Mapping):
        raise UsageError(f'--vary {key}: the config has a dict there; give a dict or None, not {value!r}.')
