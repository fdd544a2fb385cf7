"""Checks the numbers and flags of a runner's settings before anything is built; messages name the dotted path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.runner import BaseLoop
from torch.utils.data import DataLoader

from mstkit.engine.config.setting_names import LOADERS, check_names
from mstkit.errors import UsageError
from mstkit.utils.checks import (
    check_count,
    check_dict,
    check_flag,
    check_list,
    check_number,
    check_one_of,
    check_workers,
)

# DataLoader arguments that torch accepts only with worker processes.
WORKER_ARGUMENTS = ('persistent_workers', 'prefetch_factor', 'timeout', 'multiprocessing_context')
LEVELS = ('CRITICAL', 'FATAL', 'ERROR', 'WARNING', 'WARN', 'INFO', 'DEBUG', 'NOTSET')
LARGEST_COUNT = 2**31 - 1  # of iterations or epochs


def check_settings(settings: dict[str, Any]) -> list[str]:
    """Refuses settings whose names nothing reads or whose values are out of range.

    Args:
        settings: of the runner; :data:`WORKER_ARGUMENTS` are removed where num_workers is 0.

    Returns:
        Lines for the log about the removed arguments.

    Raises:
        UsageError: with the dotted path of the value, and the allowed range.
    """
    check_names(settings)
    notes = []
    for name in LOADERS:
        loader = settings.get(name)
        if loader is not None and not isinstance(loader, DataLoader):
            settings[name], dropped = _checked_loader(name, loader)
            if dropped:
                notes.append(
                    f'{name}.num_workers is 0: without worker processes {" and ".join(dropped)} '
                    f'{"have" if len(dropped) > 1 else "has"} no effect and '
                    f'{"are" if len(dropped) > 1 else "is"} left out'
                )
    _check_loop(settings.get('train_cfg'))
    _check_optimizer(settings.get('optim_wrapper'))
    for path, hook in _hooks(settings):
        if 'interval' in hook:  # mmengine's -1 is never
            check_count(
                f'{path}.interval', hook['interval'], 1 if path == 'default_hooks.logger' else -1, LARGEST_COUNT
            )
    check, given = _checker('randomness', settings.get('randomness'))
    if given.get('seed') is not None:
        check('seed', check_count, 0, 2**32 - 1)
    check('deterministic', check_flag)
    check('diff_rank_seed', check_flag)
    check, given = _checker('auto_scale_lr', settings.get('auto_scale_lr'))
    check('enable', check_flag)
    if given.get('base_batch_size') is not None:
        check('base_batch_size', check_count, 1, LARGEST_COUNT)
    processor = settings.get('log_processor')
    if isinstance(processor, Mapping):
        _checker('log_processor', processor)[0]('window_size', check_count, 1, LARGEST_COUNT)
    level = settings.get('log_level')
    if isinstance(level, str):
        check_one_of('log_level', level, LEVELS)
    return notes


def _checker(name: str, given: Any) -> tuple[Any, Mapping[str, Any]]:
    """Returns the dict ``given``, and a function that checks the value of one of its keys if the key is present."""
    values = check_dict(name, {} if given is None else given)

    def check(key: str, how: Any, *bounds: Any) -> None:
        if key in values:
            how(f'{name}.{key}', values[key], *bounds)

    return check, values


def _checked_loader(name: str, loader: Any) -> tuple[dict[str, Any], list[str]]:
    """The config of a data loader as torch accepts it, and the arguments that were removed."""
    check, given = _checker(name, loader)
    for part, example in (('dataset', 'ImageFolder'), ('sampler', 'EpochSampler')):
        if part not in given:
            raise UsageError(f"{name} has no {part}: give one, such as dict(type='{example}').")
    check('batch_size', check_count, 1, 2**20)
    check('num_workers', check_workers)
    for flag in ('drop_last', 'persistent_workers', 'pin_memory', 'shuffle'):
        if not (flag == 'shuffle' and given.get(flag) is None):
            check(flag, check_flag)
    if given.get('prefetch_factor') is not None:
        check('prefetch_factor', check_count, 1, 1000)
    check('timeout', check_number, 0)
    if given.get('num_batch_per_epoch') is not None:
        check('num_batch_per_epoch', check_count, 1, LARGEST_COUNT)
    if given.get('num_workers', 0):
        return loader, []
    dropped = [f'{key}={given[key]!r}' for key in WORKER_ARGUMENTS if given.get(key)]
    return type(loader)({key: value for key, value in given.items() if key not in WORKER_ARGUMENTS}), dropped


def _check_loop(loop: Any) -> None:
    if isinstance(loop, BaseLoop):
        return
    check, given = _checker('train_cfg', loop)
    for length in ('max_epochs', 'max_iters'):
        check(length, check_count, 1, LARGEST_COUNT)
    check('by_epoch', check_flag)
    check('val_begin', check_count, 0, LARGEST_COUNT)
    check('val_interval', check_count, 1, LARGEST_COUNT)
    if given.get('dynamic_intervals') is not None:
        check('dynamic_intervals', check_list, check_list, check_count, 0, LARGEST_COUNT)


def _check_optimizer(wrapper: Any) -> None:
    if not isinstance(wrapper, Mapping):
        return
    _checker('optim_wrapper', wrapper)[0]('accumulative_counts', check_count, 1, LARGEST_COUNT)
    optimizer = wrapper.get('optimizer')
    if isinstance(optimizer, Mapping):
        check, _ = _checker('optim_wrapper.optimizer', optimizer)
        check('lr', check_number, 0)
        check('weight_decay', check_number, 0)


def _hooks(settings: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The configs of the hooks, with their dotted paths."""
    named, others = settings.get('default_hooks') or {}, settings.get('custom_hooks') or []
    named_hooks = [(f'default_hooks.{name}', hook) for name, hook in check_dict('default_hooks', named).items()]
    if isinstance(others, str | Mapping):
        raise UsageError(f'custom_hooks is {others!r}: give a list of dicts.')
    named_hooks += [(f'custom_hooks.{i}', hook) for i, hook in enumerate(others)]
    for path, hook in named_hooks:
        if isinstance(hook, Mapping):
            yield path, hook
