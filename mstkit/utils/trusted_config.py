"""Checks configs that come with a checkpoint, or lie in a work dir, before components are built from them.

mmengine's registries import and call any dotted name that a config gives as ``type``, including ``subprocess.Popen``.
That is fine for a config that the user passes to a command. But a config inside a checkpoint has not been read by the
user, so its parts are restricted to registered components before they are built.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)

# isort: split
from mmengine.registry import Registry
from torch import nn

from mstkit.errors import UsageError, nearest
from mstkit.registry import MODELS, WEIGHT_INITIALIZERS
from mstkit.utils.private_attributes import registry_of_scope

# Packages whose registries a name with a prefix may be looked up in; no other package is imported.
SCOPES = ('mstkit', 'mmpretrain', 'mmdet', 'mmseg', 'mmengine')
# Arguments that make registered classes read files, use the network, or run code found there.
LOADING = ('pretrained', 'checkpoint', 'load_from', 'model_name', 'name_or_path', 'trust_remote_code', '_base_')
LOADING_ENDINGS = ('_path', '_file', '_url', '_checkpoint', '_dir', '_root')
MARKS_OF_PLACES = ('/', '\\', ':', '~')  # in paths and addresses, never in settings of a component
NOTHING_DONE = 'nothing was imported or run'


def trusted_part(part: Any, place: str, registry: Registry = MODELS) -> Any:
    """Checks a part of an untrusted config before it is built.

    At every depth, ``type`` must be a name in the registry (the child's, its parents', or with one of the prefixes
    ``SCOPES``), and no argument may name a file, an address, or weights to be loaded. An ``init_cfg`` that would load
    weights is dropped, since the weights come from the checkpoint. Components that the user has registered are allowed.

    Args:
        part: what is to be built: a dict, or a list of dicts.
        place: its key in the config, such as ``model.backbone``.
        registry: the registry that will build it.

    Returns:
        A copy that is safe to build.

    Raises:
        UsageError: anything else, with its key. Nothing has been imported or run.
    """
    if isinstance(part, Mapping):
        return _trusted_dict(part, place, registry)
    if isinstance(part, list | tuple):
        return type(part)(trusted_part(item, f'{place}[{index}]', registry) for index, item in enumerate(part))
    if isinstance(part, str) and any(mark in part for mark in MARKS_OF_PLACES):
        raise UsageError(_refusal(place, part, 'may not name a file or an address'))
    return part


def registered(name: str, registry: Registry) -> Any:
    """Looks up a name in a registry and its parents; None if it is not registered.

    Unlike ``Registry.get``, it imports no module that the name mentions, except for the packages of ``SCOPES``.

    Args:
        name: with or without the prefix of a scope.
        registry: the registry to start from.
    """
    scope, dot, own = name.partition('.')
    level: Registry | None = registry
    if dot:
        level, name = _of_scope(scope, registry), own
    while level is not None:
        level.import_from_location()
        if name in level.module_dict:
            return level.module_dict[name]
        level = level.parent
    return None


def _trusted_dict(part: Mapping, place: str, registry: Registry) -> dict:
    scope = part.get('_scope_')
    if scope is not None:
        found = _of_scope(scope, registry) if isinstance(scope, str) else None
        if found is None:
            raise UsageError(_refusal(f'{place}._scope_', scope, f'may be one of {", ".join(SCOPES)}'))
        registry = found
    if 'type' in part:
        _check_type(part['type'], f'{place}.type', registry)
    result = {}
    for key, value in part.items():
        inner = f'{place}.{key}'
        if key in ('type', '_scope_'):
            result[key] = value
        elif key == 'init_cfg':
            kept = _without_loading(value)
            if kept:
                result[key] = trusted_part(kept, inner, WEIGHT_INITIALIZERS)
        elif _loads(key, value):
            raise UsageError(_refusal(inner, value, 'may not have anything loaded'))
        else:
            result[key] = trusted_part(value, inner, registry)
    return result


def _check_type(kind: Any, place: str, registry: Registry) -> None:
    component = registered(kind, registry) if isinstance(kind, str) else None
    if component is None:
        names = {name for level in _with_parents(registry) for name in level.module_dict}
        hint = nearest(kind.split('.')[-1], names, count=1) if isinstance(kind, str) else ''
        raise UsageError(_refusal(place, kind, f'may only name a registered {registry.name}') + hint)
    # Functions registered as models (by other libraries) may download; torchvision's transforms are partial objects.
    is_class = inspect.isclass(component) or isinstance(component, functools.partial)
    is_module = inspect.isclass(component) and issubclass(component, nn.Module)
    if not (is_module if registry.name == MODELS.name else is_class):
        raise UsageError(_refusal(place, kind, 'may only name a class of its own kind'))


def _with_parents(registry: Registry) -> list[Registry]:
    return [registry, *(_with_parents(registry.parent) if registry.parent is not None else ())]


def _of_scope(scope: str, registry: Registry) -> Registry | None:
    """The registry of the same kind in another package; None if there is none."""
    if scope not in SCOPES:
        return None
    with contextlib.suppress(ImportError):
        importlib.import_module(f'{scope}.registry')
    return registry_of_scope(registry, scope)


def _without_loading(init_cfg: Any) -> Any:
    """Removes initializations that load weights."""
    if isinstance(init_cfg, list | tuple):
        return [kept for one in init_cfg if (kept := _without_loading(one))]
    loads = isinstance(init_cfg, Mapping) and ('checkpoint' in init_cfg or init_cfg.get('type') == 'Pretrained')
    return None if loads else init_cfg


def _loads(key: Any, value: Any) -> bool:
    named = isinstance(key, str) and (key in LOADING or key.endswith(LOADING_ENDINGS))
    return named and (value is True or isinstance(value, str | list | tuple | Mapping))


def _refusal(place: str, value: Any, rule: str) -> str:
    return (
        f'{place} is {str(value)[:80]!r}, but a config that comes with weights {rule}; {NOTHING_DONE}. '
        'If you trust it, give the config as a file of your own.'
    )
