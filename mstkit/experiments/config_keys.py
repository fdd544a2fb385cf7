"""Dotted paths into a config: lists them, checks them, and replaces the value at one."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import Registry

from mstkit import registry as mstkit_registry
from mstkit.engine.config.config_options import OPTIONAL_KEYS, apply_options, find
from mstkit.engine.config.config_values import RUNNER_KEYS
from mstkit.engine.config.run_length import set_epochs
from mstkit.errors import UsageError, nearest
from mstkit.utils.build_errors import accepted_arguments
from mstkit.utils.private_attributes import content_of

LENGTH = 'train_cfg.max_epochs'
# Keys that are set per cell and cannot be varied, with the way to set them.
RESERVED = {
    'randomness': '--seeds gives the seeds',
    'work_dir': '--work-dir gives the folder of all cells',
    'resume': 'cells resume by themselves',
    'launcher': 'a cell is one process, and --jobs says how many run at once',
}


def paths(node: Any, prefix: str = '') -> Iterator[str]:
    """Every dotted path of a config."""
    if isinstance(node, Config):
        node = content_of(node)  # a Config is no mapping
    children = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list | tuple) else ()
    for name, child in children:
        yield f'{prefix}{name}'
        yield from paths(child, f'{prefix}{name}.')


def check_key(config: Config, key: str) -> None:
    """Refuses a key that does not exist.

    A key exists if the config has it, or if its parent is a component whose class has such an argument, which is left
    at its default in the config.

    Raises:
        UsageError: with the nearest keys; or the key is one of :data:`RESERVED`, or a variable of the config file.
    """
    top = key.split('.')[0]
    if top in RESERVED:
        raise UsageError(f'--vary {key}: a choice cannot set that; {RESERVED[top]}.')
    parent, _, name = key.rpartition('.')
    arguments = _arguments(find(config, parent)[1]) if parent else []
    if not find(config, key)[0] and name not in arguments and key not in OPTIONAL_KEYS:
        known = [*paths(config), *(f'{parent}.{argument}' for argument in arguments)]
        raise UsageError(f'--vary {key}: the config has no {key!r}.{nearest(key, known)}')
    if top not in RUNNER_KEYS and top != 'runner_type':
        raise UsageError(
            f'--vary {key}: {top!r} is a variable of the config file, which is only used while the file is read, so '
            f'that a change has no effect. Vary the key where it is used'
            f'{f" ({LENGTH} for the length)" if top == "epochs" else ""}.'
        )


def replace(config: Config, key: str, value: Any) -> None:
    """Replaces the value at a dotted path.

    A new ``type`` of a component removes the arguments of the old class, and a new length adapts the schedules, as on
    the command line of ``tools/train.py``.

    Args:
        config: changed in place.
        key: accepted by :func:`check_key`.
        value: copied.

    Raises:
        UsageError: the value is not possible for this key.
    """
    if key == LENGTH and isinstance(value, int):
        set_epochs(config, value)
    elif key.endswith('.type'):
        apply_options(config, {key: value})
    else:
        parent, _, name = key.rpartition('.')
        node = find(config, parent)[1] if parent else config
        value = copy.deepcopy(value)
        node[int(name) if isinstance(node, list) else name] = ConfigDict(value) if isinstance(value, dict) else value


def _arguments(node: Any) -> list[str]:
    """The arguments of a component's class; empty if the class is unknown."""
    kind = node.get('type') if isinstance(node, Mapping) else None
    found = _registered(kind.split('.')[-1]) if isinstance(kind, str) else kind
    return accepted_arguments(found) if inspect.isclass(found) else []


def _registered(name: str) -> Any:
    registry: Any
    for registry in vars(mstkit_registry).values():
        if isinstance(registry, Registry):
            registry.import_from_location()
        while isinstance(registry, Registry):
            if name in registry.module_dict:
                return registry.module_dict[name]
            registry = registry.parent
    return None
