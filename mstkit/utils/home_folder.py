"""Expands ``~`` in paths where the shell does not: in configs, and behind ``=``, ``:`` and ``@``."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

_BEHIND = re.compile(r'(?P<before>(?:.*[=:@])?)(?P<path>~[\w.-]*(?:/.*)?)', re.DOTALL)


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path whose ``~`` is expanded, unless it is that of a user who does not exist: a file may be called so."""
    return Path(os.path.expanduser(path))


def expand_word(word: str) -> str:
    """Expands ``~`` at the beginning of a path in a command-line argument.

    The shell does not expand it in ``--data-root=~/images``, ``train_dataloader.dataset.data_root=~/images`` or
    ``timm:NAME@~/a.pth``. A ``~`` elsewhere, or of a user who does not exist, is left unchanged.
    """
    found = _BEHIND.fullmatch(word)
    return word if found is None else found['before'] + os.path.expanduser(found['path'])


def expand_homes(node: Any) -> Any:
    """Expands ``~/`` at the beginning of every string in nested dicts, lists and tuples, in place.

    Returns:
        The node itself, changed, if it is a dict or a list; otherwise its replacement.
    """
    if isinstance(node, str):
        return os.path.expanduser(node) if node == '~' or node.startswith('~/') else node
    if isinstance(node, dict):
        for key, value in list(node.items()):
            if (expanded := expand_homes(value)) is not value:
                node[key] = expanded
    elif isinstance(node, list):
        node[:] = [expand_homes(value) for value in node]
    elif type(node) is tuple:
        expanded = tuple(map(expand_homes, node))
        return expanded if any(new is not old for new, old in zip(expanded, node, strict=True)) else node
    return node
