"""Checks that a run resumed inside an epoch has the same order of samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.utils.data import DataLoader

from mstkit.datasets import EpochSampler
from mstkit.engine.checkpoints.starting_checkpoint import StartingCheckpoint
from mstkit.errors import UsageError


def sampler_of(loader: DataLoader) -> Any:
    """The sampler of a data loader; None if it has none."""
    return getattr(loader.batch_sampler, 'sampler', None)  # one's own batch sampler need not be made of a sampler


def batch_size_of(loader: DataLoader) -> int:
    """Samples per batch on one rank."""
    return loader.batch_size or loader.batch_sampler.batch_size  # type: ignore[union-attr]


def data_order(loader: DataLoader) -> dict[str, Any] | None:
    """The sampler's settings that determine the order of samples besides seed and epoch; None if it has none."""
    sampler = sampler_of(loader)
    return sampler.layout() if isinstance(sampler, EpochSampler) else None


def check_order(loader: DataLoader, start: StartingCheckpoint) -> None:
    """Refuses to resume inside an epoch with another order of samples: some would be seen twice, others never.

    Raises:
        UsageError: with the settings that differ.
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
        f'{start.path} was written inside an epoch in which the samples had another order ({differs}): resume with '
        'the settings of that run, or with a checkpoint from the end of an epoch.'
    )
