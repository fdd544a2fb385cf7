"""What each of several trainings at once may use: a GPU of its own, or its share of the cores."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch


def slot_environments(jobs: int, environment: Mapping[str, str] | None = None) -> list[dict[str, str]]:
    """The variables to set for each of the trainings that run at once.

    With several GPUs the slots get one each, in turn; more slots than GPUs share them. Without a GPU the slots divide
    the cores, unless the user has said how many threads there should be.

    Args:
        jobs: how many slots.
        environment: the present variables; those of this process by default.
    """
    present = os.environ if environment is None else environment
    count = torch.cuda.device_count()
    if count > 1:
        visible = present.get('CUDA_VISIBLE_DEVICES')
        names = visible.split(',')[:count] if visible else [str(number) for number in range(count)]
        return [{'CUDA_VISIBLE_DEVICES': names[slot % len(names)]} for slot in range(jobs)]
    if count == 1:
        return [{} for _ in range(jobs)]
    threads = present.get('OMP_NUM_THREADS') or str(max(1, _cores() // jobs))
    return [{'OMP_NUM_THREADS': threads} for _ in range(jobs)]


def _cores() -> int:
    """Cores that this process may use; a container or a batch system may have given it fewer than there are."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
