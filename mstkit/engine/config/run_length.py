"""``--epochs`` and ``--iterations``: change the length of a run and of its schedules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config

from mstkit.engine.config.config_options import FITTED
from mstkit.errors import UsageError


def set_epochs(config: Config, epochs: int) -> list[str]:
    """Changes how many epochs a config trains; see :func:`set_iterations` for one that counts in iterations.

    A schedule that ended with the run still does. A phase that ended earlier, such as the warm-up, keeps its number of
    epochs in a longer run; in a shorter run it is shortened in proportion (to one epoch at least; in a run of one epoch
    to a share of it, where ``fitted`` of the config names the phase that follows, which then stays). The same holds for
    the model's own schedules: the warm-up of the teacher temperature, the phases of a masker, and the epochs in which
    the last layer is frozen. Milestones keep their share of the run.

    Args:
        config: changed in place.
        epochs: the new length.

    Returns:
        Lines that say what was changed.

    Raises:
        UsageError: not a positive number, or a config that does not count in epochs.
    """
    return _set_length(config, epochs, '--epochs', 'max_epochs', by_epoch=True)


def set_iterations(config: Config, iterations: int) -> list[str]:
    """Changes how many iterations a config trains, as :func:`set_epochs` does with epochs.

    The validation interval stays about the same, and the run ends with a validation.

    Raises:
        UsageError: not a positive number, or a config that counts in epochs.
    """
    return _set_length(config, iterations, '--iterations', 'max_iters', by_epoch=False)


def _set_length(config: Config, length: int, option: str, key: str, by_epoch: bool) -> list[str]:
    unit = option.removeprefix('--')
    loop = config.get('train_cfg') or {}
    old = loop.get(key)
    if old is None:
        other = '--iterations' if by_epoch else '--epochs'
        way_out = f'; give {other}' if loop.get('max_iters' if by_epoch else 'max_epochs') else ''
        raise UsageError(f'{option}: train_cfg of this config has no {key}{way_out}')
    if length < 1:
        raise UsageError(f'{option} is a whole number from 1, not {length}')
    loop[key] = length
    if 'val_interval' in loop:
        loop['val_interval'] = _dividing(length, loop['val_interval'])
    changes = []
    fitted = [path for paths in (config.get(FITTED) or {}).values() for path in paths]
    parts = length == 1 and any(path.startswith('param_scheduler.') for path in fitted)
    moved = _moved_in_parts if parts else _moved
    for scheduler in config.get('param_scheduler') or []:
        if scheduler.get('by_epoch', True) is not by_epoch:
            continue
        before = (scheduler.get('begin', 0), scheduler.get('end', old))
        # A begin of 0 stays; any other begin is the end of an earlier phase.
        after = (moved(before[0], old, length) if before[0] else 0, moved(before[1], old, length))
        scheduler['begin'], scheduler['end'] = after
        if scheduler.get('warmup'):
            scheduler['warmup'] = min(_moved(scheduler['warmup'], old, length), length - 1)
        if 'milestones' in scheduler:
            scheduler['milestones'] = sorted({max(1, round(m * length / old)) for m in scheduler['milestones']})
        if after != before:
            changes.append(f'{scheduler["type"]} {before[0]}-{before[1]} -> {after[0]}-{after[1]}')
    # Remove phases without a single epoch or iteration, such as the cosine after the warm-up in a run of one epoch.
    config['param_scheduler'] = [
        s for s in config.get('param_scheduler') or [] if s.get('end', length) > s.get('begin', 0)
    ]
    if by_epoch:
        changes += [f'{key} {before} -> {after}' for key, before, after in _move_inner_schedules(config, old, length)]
    return [f'{unit}: {old} -> {length}' + (f' ({unit} of the schedules: {", ".join(changes)})' if changes else '')]


def _move_inner_schedules(config: Config, old: int, new: int) -> Iterator[tuple[str, Any, Any]]:
    """Changes the epochs in model and optimizer wrapper; yields dotted keys, and values before and after."""
    for path, part in parts_of(config.get('model'), 'model'):
        keys = [key for key in ('warmup_teacher_temp_epochs', 'start_epoch') if part.get(key)]
        if str(part.get('type')).split('.')[-1] == 'RatioSchedule':
            keys.append('epochs')
        for key in keys:
            before, part[key] = part[key], _moved(part[key], old, new)
            if part[key] != before:
                yield f'{path}.{key}', before, part[key]
        if str(part.get('type')).split('.')[-1] == 'MaskerSchedule' and new < old:
            before = [start for start, _ in part['phases']]
            # Of phases that would start in the same epoch, the last one counts.
            moved = {_moved(start, old, new) if start else 0: masker for start, masker in part['phases']}
            part['phases'] = [(start, masker) for start, masker in moved.items() if start < new]
            yield f'{path}.phases', before, [start for start, _ in part['phases']]
    wrapper = config.get('optim_wrapper') or {}
    frozen = wrapper.get('freeze_last_layer_epochs', 0)
    if frozen >= new:  # the last layer would never be trained
        wrapper['freeze_last_layer_epochs'] = new - 1
        yield 'optim_wrapper.freeze_last_layer_epochs', frozen, new - 1


def parts_of(node: Any, path: str) -> Iterator[tuple[str, dict]]:
    """Every dict of a config, with its dotted path."""
    if isinstance(node, Mapping):
        yield path, node  # type: ignore[misc]
    inner = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list | tuple) else ()
    for key, value in inner:
        yield from parts_of(value, f'{path}.{key}')


def _moved(end: int, old: int, new: int) -> int:
    """The end of a phase after the run's length changed from ``old`` to ``new``."""
    if end >= old:
        return new
    return min(end, max(1, round(end * new / old))) if new < old else end


def _moved_in_parts(end: float, old: int, new: int) -> float:
    """The same for a phase that may be shorter than an epoch."""
    return new if end >= old else round(end * new / old, 3)


def _dividing(length: int, interval: int) -> int:
    """The largest number from half an interval to all of it that divides a length, or else the length itself."""
    return next((i for i in range(min(interval, length), (interval - 1) // 2, -1) if length % i == 0), length)
