"""Settings of a process that trains on the CPU: what a step leaves to the system costs more than some of its layers."""

from __future__ import annotations

import ctypes
import inspect
import sys
from collections.abc import Mapping
from typing import Any

import torch

from mstkit.errors import UsageError

# Of malloc.h. The last one is for the allocator to ask the system for more than it needs right now.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_NEVER, _STEP = 2**31 - 1, 64 * 2**20


def keep_freed_memory() -> bool:
    """Lets the process keep the memory of freed tensors for the next ones, instead of giving it back each time.

    glibc takes every large tensor from the system and returns it, so that a step touches tens of thousands of new
    pages, which the kernel first fills with zeros. The peak stays the same. Other C libraries are left alone.

    Returns:
        Whether the C library took the settings.
    """
    if not sys.platform.startswith('linux'):
        return False
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is None:
        return False
    wanted = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER), (_TOP_PAD, _STEP))
    return all([mallopt(option, value) for option, value in wanted])


def prepare_cpu(keep_memory: bool = True, flush_denormal: bool = True) -> list[str]:
    """Prepares the process for training on the CPU; does nothing where a GPU is there.

    Args:
        keep_memory: see :func:`keep_freed_memory`.
        flush_denormal: numbers below 1e-38 become zero. A processor takes many times as long over them, and an
            attention that has become sharp is full of them.

    Returns:
        What was set, in words, for the log.
    """
    if torch.cuda.is_available():
        return []
    done = []
    if keep_memory and keep_freed_memory():
        done.append('freed memory is kept for reuse')
    if flush_denormal and torch.set_flush_denormal(True):
        done.append('denormal numbers count as zero')
    return done


def prepare_as(config: Mapping[str, Any]) -> list[str]:
    """:func:`prepare_cpu` with what a config's ``env_cfg`` says of it; see :func:`settings_of`."""
    return prepare_cpu(**settings_of(config.get('env_cfg') or {}))


def settings_of(environment: Mapping[str, Any]) -> dict[str, bool]:
    """The arguments of :func:`prepare_cpu` that a config's ``env_cfg`` gives as ``cpu``.

    Raises:
        UsageError: a name that is not one of them, or a value that is neither True nor False.
    """
    given = environment.get('cpu') or {}
    names = list(inspect.signature(prepare_cpu).parameters)
    for name, value in given.items():
        if name not in names:
            raise UsageError(f'env_cfg.cpu.{name} is not known; there are {" and ".join(names)}.')
        if not isinstance(value, bool):
            raise UsageError(f'env_cfg.cpu.{name} is True or False, not {value!r}.')
    return dict(given)
