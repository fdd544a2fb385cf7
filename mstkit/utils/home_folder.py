"""``~`` in paths where no shell has put the home folder in its place: in configs, and behind ``=``, ``:`` and ``@``."""

from __future__ import annotations

import os
import re
from typing import Any

_BEHIND = re.compile(r'(?P<before>(?:.*[=:@])?)(?P<path>~[\w.-]*(?:/.*)?)', re.DOTALL)


def expand_word(word: str) -> str:
    """A word of a command line with the home folder in place of ``~`` where a path begins.

    ``--data-root=~/images``, ``train_dataloader.dataset.data_root=~/images`` and ``timm:NAME@~/a.pth`` are words in
    which the shell leaves it. A ``~`` elsewhere stays, and so does that of a user who does not exist.
    """
    found = _BEHIND.fullmatch(word)
    return word if found is None else found['before'] + os.path.expanduser(found['path'])


def expand_homes(node: Any) -> Any:
    """Every text in nested dicts, lists and tuples that begins with ``~/`` with the home folder there, in place.

    Returns:
        The node itself where it is a dict or a list, changed; otherwise what takes its place.
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
