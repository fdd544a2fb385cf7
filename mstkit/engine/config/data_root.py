"""``--data-root``: one folder for every data set that a config names."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from mstkit.datasets.dataset_interface import known_from_config
from mstkit.errors import UsageError
from mstkit.utils.build_errors import accepted_arguments, component_called
from mstkit.utils.config_parts import hook_configs
from mstkit.utils.private_attributes import content_of

BUILT_IN = 'BuiltinScenes'
OWN_IMAGES_CONFIG = 'configs/mst/mst_vit-tiny_folder.py'
OWN_CLASSES_CONFIG = 'configs/downstream/mmpretrain/vit-tiny_folder.py'


def dataset_configs(node: Any, path: str = '') -> Iterator[tuple[str, dict]]:
    """Finds every data set in a config, in loaders, hooks and wrappers alike.

    Yields:
        The dotted path and the data set's own dict.
    """
    if isinstance(node, Config):
        node = content_of(node)  # a Config is no mapping
    if isinstance(node, Mapping):
        if dataset_class(node) is not None:
            yield path, node  # type: ignore[misc]
        for key, value in node.items():
            yield from dataset_configs(value, f'{path}.{key}' if path else str(key))
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from dataset_configs(value, f'{path}.{index}')


def set_data_root(config: Config | dict[str, Any], data_root: str) -> list[str]:
    """Gives every data set of a config the same root.

    Args:
        config: changed in place.
        data_root: a folder; or a URL, where every data set of the config reads shards.

    Returns:
        The paths of the data sets.

    Raises:
        UsageError: there is no such folder, or the config generates its own images.
    """
    data_root = os.path.expanduser(data_root)
    is_url = '://' in data_root
    if not is_url and not Path(data_root).is_dir():
        raise UsageError(f'--data-root {data_root}: there is no such folder.')
    own = OWN_CLASSES_CONFIG if 'pretrained' in (config.get('default_hooks') or {}) else OWN_IMAGES_CONFIG
    changed: list[str] = []
    old_roots: set[str] = set()
    for path, dataset in dataset_configs(config):
        if str(dataset['type']).split('.')[-1] == BUILT_IN:
            raise UsageError(
                f'--data-root {data_root}: this config generates its own images ({path} is {BUILT_IN}). '
                f'To train on yours, use {own} or another config that reads files.'
            )
        if is_url and not _reads_urls(dataset):
            raise UsageError(
                f'--data-root {data_root}: {path} is {dataset["type"]}, which reads folders only. Make shards with '
                'tools/make_shards.py and read them by ShardDataset.'
            )
        if 'data_root' in accepted_arguments(dataset_class(dataset)):  # type: ignore[arg-type]
            old_roots.update([str(dataset['data_root'])] if dataset.get('data_root') else [])
            dataset['data_root'] = data_root
            changed.append(path)
    if not changed:
        raise UsageError(f'--data-root {data_root}: no data set of this config has a data_root.')
    for name in ('val_evaluator', 'test_evaluator'):
        evaluators = config.get(name)
        for evaluator in evaluators if isinstance(evaluators, list | tuple) else [evaluators]:
            if evaluator and evaluator.get('ann_file'):  # COCO's metric reads the annotation file itself
                evaluator['ann_file'] = _moved(evaluator['ann_file'], old_roots, data_root)
    return changed


def _moved(path: str, old_roots: set[str], new_root: str) -> str:
    """Moves a path from below one of the old roots to below the new one; other paths stay."""
    for root in old_roots:
        if os.path.normpath(path).startswith(os.path.normpath(root) + os.sep):
            return os.path.join(new_root, os.path.relpath(path, root))
    return path


def check_data_roots(config: Config | dict[str, Any]) -> None:
    """Refuses a missing folder before anything is built.

    Not checked are the data sets of a hook that is not ``required``, since the hook can be left out, and data sets
    that download their files.

    Raises:
        UsageError: naming the folder and how to give another.
    """
    optional = tuple(f'{path}.' for path, hook in hook_configs(config) if not hook.get('required', False))
    for path, dataset in dataset_configs(config):
        root = dataset.get('data_root')
        downloads = dataset.get('download', 'download' in accepted_arguments(dataset_class(dataset)))  # type: ignore[arg-type]
        if root and '://' in str(root) and _reads_urls(dataset):
            continue
        if root and not downloads and not path.startswith(optional or ('\0',)) and not Path(root).is_dir():
            raise UsageError(
                f'{path}: the folder {str(root)!r} does not exist. Give the folder of your images: --data-root DIR.'
            )


def _reads_urls(dataset: Mapping[str, Any]) -> bool:
    return known_from_config(dataset_class(dataset)).reads_urls


def dataset_class(node: Mapping[str, Any]) -> type | None:
    """The registered data set class that a config names, or None if it names none."""
    kind = node.get('type')
    if inspect.isclass(kind):
        return kind if kind in DATASETS.module_dict.values() else None
    if not isinstance(kind, str):
        return None
    scope = DefaultScope.get_current_instance()
    with DATASETS.switch_scope_and_registry(scope.scope_name if scope else 'mstkit') as registry:
        found = component_called(kind, registry)
    return found if inspect.isclass(found) else None
