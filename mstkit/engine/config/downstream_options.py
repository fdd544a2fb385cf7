"""What a downstream config takes from the command line (``--pretrained``, ``--num-classes``) and from its data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config

from mstkit.datasets.dataset_interface import known_from_config
from mstkit.engine.config.data_root import dataset_class, dataset_configs
from mstkit.errors import UsageError

PRETRAINED_HOOK = 'PretrainedBackboneHook'
CLASS_NAME_VISUALIZER = 'ClassNameVisualizer'


def set_pretrained(config: Config, checkpoint: str | None, branch: str | None) -> list[str]:
    """Names the checkpoint whose backbone a run starts from: a downstream run, or a pre-training that goes on with it.

    Args:
        config: changed in place.
        checkpoint: the file; None leaves the config's own.
        branch: ``'student'`` or ``'teacher'``; None leaves the config's own.

    Returns:
        Lines for the user.

    Raises:
        UsageError: the config's ``default_hooks.pretrained`` is something else than a :class:`PretrainedBackboneHook`.
    """
    hooks = config.get('default_hooks') or {}
    hook = hooks.get('pretrained')
    if not hook:
        # That of a downstream config is there, since it depends on it.
        config.default_hooks = {**hooks, 'pretrained': dict(type=f'mstkit.{PRETRAINED_HOOK}')}
        hook = config.default_hooks['pretrained']
    if str(hook.get('type')).split('.')[-1] != PRETRAINED_HOOK:
        raise UsageError(
            f'--pretrained {checkpoint}: default_hooks.pretrained of this config is a {hook.get("type")}, not a '
            f'{PRETRAINED_HOOK}: give that hook another name.'
        )
    if checkpoint is not None:
        hook['checkpoint'] = checkpoint
    if branch is not None:
        hook['branch'] = branch
    return [f'pretrained: the {hook.get("branch", "student")} of {hook.get("checkpoint")}']


def set_num_classes(config: Config, count: int) -> list[str]:
    """Sets every ``num_classes`` of the model, the data preprocessor and the data sets.

    Raises:
        UsageError: not a positive number, or a config without any ``num_classes``.
    """
    if count < 1:
        raise UsageError(f'--num-classes is a whole number from 1, not {count}')
    changed = []
    for name in ('model', 'data_preprocessor'):
        for path, part in _parts_with('num_classes', config.get(name), name):
            part['num_classes'] = count
            changed.append(path)
    for path, dataset in dataset_configs(config):
        if 'num_classes' in dataset:
            dataset['num_classes'] = count
            changed.append(path)
            facts = dataset.get('metainfo') or {}
            if len(facts.get('classes', ())) not in (0, count):  # class names of another data set
                dataset['metainfo'] = {key: fact for key, fact in facts.items() if key not in ('classes', 'palette')}
    if not changed:
        raise UsageError(f'--num-classes {count}: nothing in this config has a num_classes')
    return [f'{count} classes for {", ".join(changed)}']


def match_classes(config: Config) -> list[str]:
    """Sets the heads' ``num_classes`` to that of the training data, and gives all data sets the same classes.

    The classes are known from the config if the data set's class is a :class:`KnownFromConfig`; otherwise the config
    stays as it is.

    Raises:
        UsageError: the data cannot be read.
    """
    train, kind = _training_data(config)
    classes = known_from_config(kind).classes_of(train)
    if classes is None:
        return []
    _share(config, kind, 'classes', classes)
    if not any(_parts_with('num_classes', config.get('model'), 'model')):
        return []  # a pre-training: the model has no classes
    return set_num_classes(config, len(classes))


def match_keypoints(config: Config) -> list[str]:
    """Sets the heads' ``num_keypoints`` to that of the training data, and gives all data sets the keypoints' names.

    They are known from the config if the data set's class is a :class:`KnownFromConfig` with keypoints; otherwise the
    config stays as it is.

    Returns:
        Lines for the user.

    Raises:
        UsageError: the data cannot be read.
    """
    train, kind = _training_data(config)
    names = known_from_config(kind).keypoints_of(train)
    if names is None:
        return []
    _share(config, kind, 'keypoints', names)
    changed = []
    for path, part in _parts_with('num_keypoints', config.get('model'), 'model'):
        part['num_keypoints'] = len(names)
        changed.append(path)
    return [f'{len(names)} keypoints for {", ".join(changed)}'] if changed else []


def name_classes(config: Config) -> None:
    """Writes names and colors of the training data's classes into the config of a :data:`CLASS_NAME_VISUALIZER`.

    Inferencers need this: they have a config and a checkpoint, but no data. The names and colors are known from the
    config if the data set's class is a :class:`KnownFromConfig` that knows them.
    """
    visualizer = config.get('visualizer') or {}
    train, kind = _training_data(config)
    if str(visualizer.get('type')).split('.')[-1] == CLASS_NAME_VISUALIZER:
        facts = known_from_config(kind).facts_of(train)
        if facts is None:
            return
        visualizer.update(classes=list(facts['classes']), palette=[list(color) for color in facts['palette']])


def _training_data(config: Config) -> tuple[Mapping[str, Any], type | None]:
    """The config of the training data and the data set's class; empty and None where there is none."""
    train = (config.get('train_dataloader') or {}).get('dataset')
    return (train, dataset_class(train)) if isinstance(train, Mapping) else ({}, None)


def _share(config: Config, kind: type | None, key: str, names: Sequence[str]) -> None:
    """Gives all data sets of a class the same names, in ``metainfo``."""
    for _, dataset in dataset_configs(config):
        if dataset_class(dataset) is kind:
            dataset['metainfo'] = {**(dataset.get('metainfo') or {}), key: tuple(names)}


def _parts_with(key: str, node: Any, path: str) -> Iterator[tuple[str, dict]]:
    """Every part of a config, with its dotted path, that has a key."""
    if isinstance(node, Mapping) and key in node:
        yield path, node  # type: ignore[misc]
    inner = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list | tuple) else ()
    for name, value in inner:
        yield from _parts_with(key, value, f'{path}.{name}')
