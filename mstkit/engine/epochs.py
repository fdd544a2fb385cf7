"""``--epochs``: another length for a run, with its schedules."""

from __future__ import annotations

from mmengine.config import Config

from mstkit.errors import UsageError


def set_epochs(config: Config, epochs: int) -> list[str]:
    """Changes how long a config trains.

    A schedule that ended with the run still does. A phase that ended before, such as the warm-up, keeps its epochs as
    long as it stays within the share of the run that it had, and is shortened to that share (one epoch at least)
    where the run became shorter.

    Args:
        config: changed in place.
        epochs: the new length.

    Returns:
        Lines that say what was changed.

    Raises:
        UsageError: not a positive number, or a config that does not count in epochs.
    """
    loop = config.get('train_cfg') or {}
    old = loop.get('max_epochs')
    if old is None:
        raise UsageError('--epochs: train_cfg of this config has no max_epochs')
    if epochs < 1:
        raise UsageError(f'--epochs is a whole number from 1, not {epochs}')

    def moved(end: int) -> int:
        if end >= old:
            return epochs
        return min(end, max(1, round(end * epochs / old))) if epochs < old else end

    loop['max_epochs'] = epochs
    changes = []
    for scheduler in config.get('param_scheduler') or []:
        if not scheduler.get('by_epoch', True):
            continue
        before = (scheduler.get('begin', 0), scheduler.get('end', old))
        # A begin of 0 stays; any other is the end of the phase before.
        scheduler['begin'], scheduler['end'] = (moved(before[0]) if before[0] else 0), moved(before[1])
        after = (scheduler['begin'], scheduler['end'])
        if after != before:
            changes.append(f'{scheduler["type"]} {before[0]}-{before[1]} -> {after[0]}-{after[1]}')
    # A phase that has shrunk to nothing (a cosine of no epochs, in a run of one) goes.
    config['param_scheduler'] = [
        s for s in config.get('param_scheduler') or [] if s.get('end', epochs) > s.get('begin', 0)
    ]
    return [f'epochs: {old} -> {epochs}' + (f' (epochs of the schedules: {", ".join(changes)})' if changes else '')]
