"""Process settings that speed up training on the CPU: memory allocation and denormal numbers."""

from __future__ import annotations

import ctypes
import inspect
import sys
from collections.abc import Mapping
from typing import Any

import torch

from mstkit.errors import UsageError

# Option numbers of mallopt from malloc.h. TOP_PAD: extra bytes to request from the system each time.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_NEVER, _STEP = 2**31 - 1, 64 * 2**20


def keep_freed_memory() -> bool:
    """Makes glibc keep the memory of freed tensors for later ones instead of returning it to the system.

    By default glibc maps and unmaps the memory of every large tensor, so that a training step touches tens of
    thousands of new pages, which the kernel has to zero. Peak memory does not change. Does nothing with other C
    libraries.

    Returns:
        Whether the C library accepted the settings.
    """
    if not sys.platform.startswith('linux'):
        return False
    # glibc has it; musl, for example, does not.
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is None:
        return False
    wanted = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER), (_TOP_PAD, _STEP))
    return all([mallopt(option, value) for option, value in wanted])


def prepare_cpu(keep_memory: bool = True, flush_denormal: bool = True) -> list[str]:
    """Prepares the process for training on the CPU; does nothing if there is a GPU.

    Args:
        keep_memory: see :func:`keep_freed_memory`.
        flush_denormal: treat denormal numbers (below 1e-38) as zero. CPUs compute with them many times more slowly,
            and sharp attention maps contain many.

    Returns:
        A phrase for the log about each setting that was made.
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
    """Calls :func:`prepare_cpu` with the arguments in a config's ``env_cfg.cpu``; see :func:`settings_of`."""
    return prepare_cpu(**settings_of(config.get('env_cfg') or {}))


def settings_of(environment: Mapping[str, Any]) -> dict[str, bool]:
    """Reads the arguments of :func:`prepare_cpu` from the ``cpu`` dict of a config's ``env_cfg``.

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
