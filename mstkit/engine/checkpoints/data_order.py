"""What the order of the samples depends on, and whether a run may go on in the middle of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.utils.data import DataLoader

from mstkit.engine.checkpoints.starting_checkpoint import StartingCheckpoint
from mstkit.errors import UsageError


def sampler_of(loader: DataLoader) -> Any:
    """What decides which samples come when; None where a loader has nothing of the kind."""
    return getattr(loader.batch_sampler, 'sampler', None)


def data_order(loader: DataLoader) -> dict[str, Any] | None:
    """What the order of a loader's samples depends on besides seed and epoch; None where that is nothing else."""
    sampler = sampler_of(loader)
    return sampler.layout() if hasattr(sampler, 'layout') else None


def check_order(loader: DataLoader, start: StartingCheckpoint) -> None:
    """Refuses to go on inside an epoch whose order was another one: samples would come twice, or never.

    Raises:
        UsageError: naming what differs.
    """
    if not start.meta or start.meta['iter'] % len(loader) == 0:
        return
    saved, now = start.meta.get('data_order'), data_order(loader)
    saved = saved if isinstance(saved, Mapping) else None
    if saved == now:
        return
    names = [name for name in (saved or now or {}) if (saved or {}).get(name) != (now or {}).get(name)]
    differs = ', '.join(f'{name} {(saved or {}).get(name)} and now {(now or {}).get(name)}' for name in names)
    raise UsageError(
        f'{start.path} was written inside an epoch, and the order of the samples was another one ({differs}): resume '
        'with the settings of that run, or with a checkpoint from the end of an epoch.'
    )
