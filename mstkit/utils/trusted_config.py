"""What a config that came with a file of weights, or lies in a work dir, may have built from it.

mmengine's registries import any dotted name that a config gives as a ``type``, and call it: ``subprocess.Popen`` as
well as a backbone. That is right for the config that a person hands to a command. A config that travels with weights
is data, and whoever opens the weights has not read it; so its parts pass through here before they are built.
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

# Whose registries a name with a prefix may be looked up in; no other package is imported for a name's sake.
SCOPES = ('mstkit', 'mmpretrain', 'mmdet', 'mmseg', 'mmengine')
# Arguments that make registered classes read files, ask the network, or run what they find there.
LOADING = ('pretrained', 'checkpoint', 'load_from', 'model_name', 'name_or_path', 'trust_remote_code', '_base_')
LOADING_ENDINGS = ('_path', '_file', '_url', '_checkpoint', '_dir', '_root')
MARKS_OF_PLACES = ('/', '\\', ':', '~')  # no setting of an architecture or a transform has them
NOTHING_DONE = 'nothing was imported or run'


def trusted_part(part: Any, place: str, registry: Registry = MODELS) -> Any:
    """A part of a config from elsewhere, which may be built.

    At every depth a ``type`` has to be a name in the registry (the child's, its parents', or with one of the prefixes
    ``SCOPES``), and no argument may name a file, an address, or weights to be loaded. An ``init_cfg`` that would load
    weights is left out: the weights come from the file that the config came with. Components of a program of one's own
    that are registered there are as good as ours.

    Args:
        part: what is to be built: a dict, or a list of them.
        place: where it is in the config, such as ``model.backbone``.
        registry: that it will be built by.

    Returns:
        A copy.

    Raises:
        UsageError: something else, with its place. Nothing has been imported or run.
    """
    if isinstance(part, Mapping):
        return _trusted_dict(part, place, registry)
    if isinstance(part, list | tuple):
        return type(part)(trusted_part(item, f'{place}[{index}]', registry) for index, item in enumerate(part))
    if isinstance(part, str) and any(mark in part for mark in MARKS_OF_PLACES):
        raise UsageError(_refusal(place, part, 'may not name a file or an address'))
    return part


def registered(name: str, registry: Registry) -> Any:
    """What a registry or one of its parents holds under a name; None where nothing is.

    Unlike ``Registry.get``, it imports nothing that the name mentions, other than the packages of ``SCOPES``.

    Args:
        name: with or without the prefix of a scope.
        registry: where to begin.
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
    # Among the models of others are functions that download; torchvision's transforms are wrapped by partial.
    is_class = inspect.isclass(component) or isinstance(component, functools.partial)
    is_module = inspect.isclass(component) and issubclass(component, nn.Module)
    if not (is_module if registry.name == MODELS.name else is_class):
        raise UsageError(_refusal(place, kind, 'may only name a class of its own kind'))


def _with_parents(registry: Registry) -> list[Registry]:
    return [registry, *(_with_parents(registry.parent) if registry.parent is not None else ())]


def _of_scope(scope: str, registry: Registry) -> Registry | None:
    """The registry of the same kind in a package; None where there is none."""
    if scope not in SCOPES:
        return None
    with contextlib.suppress(ImportError):
        importlib.import_module(f'{scope}.registry')
    return registry_of_scope(registry, scope)


def _without_loading(init_cfg: Any) -> Any:
    """The initializations that load nothing."""
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
