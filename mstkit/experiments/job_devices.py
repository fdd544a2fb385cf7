"""Distributes GPUs, or CPU cores, over trainings that run at the same time."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch


def slot_environments(jobs: int, environment: Mapping[str, str] | None = None) -> list[dict[str, str]]:
    """The environment variables to be set for each of the trainings that run at the same time.

    With several GPUs each training gets one, in turn; more trainings than GPUs share them. Without a GPU the trainings
    divide the cores, unless ``OMP_NUM_THREADS`` is set.

    Args:
        jobs: number of trainings.
        environment: the current variables; by default those of this process.
    """
    present = os.environ if environment is None else environment
    count = torch.cuda.device_count()
    if count > 1:
        visible = present.get('CUDA_VISIBLE_DEVICES')
        names = visible.split(',')[:count] if visible else [str(number) for number in range(count)]
        return [{'CUDA_VISIBLE_DEVICES': names[slot % len(names)]} for slot in range(jobs)]
    if count == 1:
        return [{} for _ in range(jobs)]
    threads = present.get('OMP_NUM_THREADS') or str(max(1, usable_cores() // jobs))
    return [{'OMP_NUM_THREADS': threads} for _ in range(jobs)]


def usable_cores() -> int:
    """The number of cores that this process may use, which may be fewer than the machine has."""
    if hasattr(os, 'sched_getaffinity'):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
