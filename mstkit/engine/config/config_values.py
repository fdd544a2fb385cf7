"""A config as a flat dict of values by dotted path, to compare two configs."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.runner import Runner

from mstkit.engine.config.config_options import OPTIONAL_KEYS

# Keys that a runner reads. Other keys are helper variables of the config file.
RUNNER_KEYS = frozenset(inspect.signature(Runner.__init__).parameters) | set(OPTIONAL_KEYS)
# Keys that do not change what is trained: where a run writes and how it was started.
NOT_COMPARED = ('work_dir', 'resume', 'load_from', 'launcher', 'accept_changes')


def flatten(config: Mapping[str, Any]) -> dict[str, str]:
    """The ``repr`` of every value that a runner reads, by dotted path."""
    found: dict[str, str] = {}
    for name, value in config.items():
        if name in RUNNER_KEYS and name not in NOT_COMPARED:
            found.update(_leaves(value, name))
    return found


def _leaves(node: Any, path: str) -> Iterator[tuple[str, str]]:
    inner: Any = None
    if isinstance(node, Mapping) and node:
        inner = node.items()
    elif isinstance(node, list | tuple) and any(isinstance(item, Mapping) for item in node):
        inner = enumerate(node)
    if inner is None:
        yield path, repr(dict(node) if isinstance(node, Mapping) else node)
        return
    for name, value in inner:
        yield from _leaves(value, f'{path}.{name}')
