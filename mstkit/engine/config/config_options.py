"""``--cfg-options``: overrides of a config; one that the config has no use for is an error."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config, DictAction

from mstkit.errors import UsageError, nearest

FITTED = 'fitted'  # the key of a config under which stands what is chosen by the number of images

# Keys that can be set even if the config lacks them: mmengine's Runner or our launcher reads them.
OPTIONAL_KEYS = (
    'accept_changes',
    'activation_checkpointing',
    'compile',
    'data_preprocessor',
    'efficient_conv_bn_eval',
    'experiment_name',
    'find_unused_parameters',
    'launcher',
    'load_from',
    'log_level',
    'model_wrapper_cfg',
    'param_scheduler',
    'randomness',
    'resume',
    'sync_bn',
    'test_cfg',
    'test_dataloader',
    'test_evaluator',
    'val_cfg',
    'val_dataloader',
    'val_evaluator',
    'work_dir',
    'auto_scale_lr',
)

# Keys that are kept when the type of a component changes, because they do not depend on its class; by the name of
# the component's key.
SLOT_KEYS = {
    'optim_wrapper': ('optimizer', 'paramwise_cfg', 'constructor', 'accumulative_counts'),
    'optimizer': ('lr', 'weight_decay'),
    'dataset': ('pipeline', 'data_root'),
}


class OptionsAction(DictAction):
    """mmengine's ``DictAction``: ``KEY=VALUE`` pairs, with lists and tuples in brackets; what it cannot parse is said.

    Raises:
        UsageError: a word without ``=``, brackets that do not match, or a dict, which has to be given key by key.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """See the class."""
        for pair in values or ():
            key, equals, value = pair.partition('=')
            if not key or not equals:
                raise UsageError(f'{option_string} {pair}: give KEY=VALUE')
            if value.lstrip('"\'([ ').startswith(('dict(', '{')):
                raise UsageError(
                    f'{option_string} {pair}: a dict is given key by key, such as {key}.type=NAME {key}.ARGUMENT=VALUE'
                )
            if any(value.count(left) != value.count(right) for left, right in ('()', '[]')):
                raise UsageError(f'{option_string} {pair}: the brackets do not match')
            try:
                super().__call__(parser, namespace, [pair], option_string)
            except (RecursionError, AssertionError) as error:
                raise UsageError(
                    f'{option_string} {pair}: the value is no number, word, list [A,B] or tuple (A,B)'
                ) from error


def apply_options(config: Config, options: Mapping[str, Any]) -> list[str]:
    """Merges command-line overrides into a config.

    Where an override changes the ``type`` of a component, the arguments of the old class are removed, except
    :data:`SLOT_KEYS` and those that are overridden too. ``model.masker=none`` switches a component off.

    Args:
        config: changed in place.
        options: values by dotted path, as mmengine's ``DictAction`` parses them.

    Returns:
        One line per component that was swapped.

    Raises:
        UsageError: the config does not have the first name of a path, or a name in the middle is no dict or list.
    """
    for path in options:
        top = path.split('.')[0]
        if top == 'custom_imports':
            raise UsageError(f'--cfg-options {path}: imports are made while the file is read; write them in the file')
        if top not in config and top not in OPTIONAL_KEYS:
            known = [*config.keys(), *OPTIONAL_KEYS]
            raise UsageError(f'--cfg-options {path}: the config has no {top!r}.{nearest(top, known)}')
    merged = dict(options)
    lines = []
    for path, value in options.items():
        keep_given(config, path)
        old = find(config, path)[1]
        if isinstance(value, str) and value.lower() == 'none' and (old is None or isinstance(old, Mapping)):
            merged[path] = None
            lines.append(f'{path}: {_type_of(old)} -> none')
        if path.endswith('.type') and isinstance(value, str):
            line = _swap(config, path.removesuffix('.type'), value, options)
            lines += [line] if line else []
    try:
        config.merge_from_dict(merged, allow_list_keys=True)
    except (TypeError, KeyError, AttributeError, IndexError) as error:
        raise UsageError(f'--cfg-options {" ".join(options)} does not fit the config: {error}') from error
    return lines


def _swap(config: Config, component: str, new_type: str, options: Mapping[str, Any]) -> str | None:
    """Removes the old class's arguments from a component whose type changes; returns a line that lists them."""
    old = find(config, component)[1]
    if old is not None and not isinstance(old, Mapping):
        raise UsageError(f'--cfg-options {component}.type={new_type}: {component} is {old!r}, not a component.')
    if old is not None and _type_of(old).split('.')[-1] == new_type.split('.')[-1]:
        return None
    given = {path.removeprefix(f'{component}.').split('.')[0] for path in options if path.startswith(f'{component}.')}
    name = component.rpartition('.')[2]
    kept = {key: old[key] for key in SLOT_KEYS.get(name, ()) if key in old} if old else {}
    stale = [key for key in (old or {}) if key not in given and key not in kept and key not in ('type', '_scope_')]
    dropped = ', '.join(f'{key}={old[key]!r}' for key in stale) if old else ''
    parent = find(config, component.rpartition('.')[0])[1] if '.' in component else config
    if parent is None:
        return None  # the component does not exist yet: the merge creates it
    parent[int(name) if isinstance(parent, list) else name] = kept
    return f'{component}: {_type_of(old)} -> {new_type}' + (f'; dropped {dropped}' if dropped else '')


def keep_given(config: Config | Mapping[str, Any], path: str) -> None:
    """Takes a dotted path, and those below it, out of what :mod:`mstkit.engine.config.fitted_values` would choose."""
    rules = config.get(FITTED) or {}
    for name, paths in rules.items():
        rules[name] = [one for one in paths if not f'{one}.'.startswith(f'{path}.')]


def _type_of(component: Any) -> str:
    return str(component.get('type', 'a dict')) if isinstance(component, Mapping) else 'none'


def find(config: Config | Mapping[str, Any], path: str) -> tuple[bool, Any]:
    """Looks a dotted path up.

    Returns:
        Whether the path exists (also with the value None), and its value or None.
    """
    node: Any = config
    for name in path.split('.'):
        if isinstance(node, Config | Mapping) and name in node:
            node = node[name]
        elif isinstance(node, list | tuple) and name.isdigit() and int(name) < len(node):
            node = node[int(name)]
        else:
            return False, None
    return True, node
