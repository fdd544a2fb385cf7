"""How much memory this process may still take, and sizes of memory in words."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from mstkit.errors import UsageError

_UNITS = {'': 1, 'k': 2**10, 'm': 2**20, 'g': 2**30, 't': 2**40}
_SIZE = re.compile(r'\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*', re.IGNORECASE)
# How many processes the launchers (torchrun, Open MPI, Slurm) started on this machine.
_LOCAL_PROCESSES = ('LOCAL_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_SIZE', 'SLURM_NTASKS_PER_NODE')


def in_words(size: float) -> str:
    """A number of bytes with its unit, such as ``1.5 GiB``."""
    for unit in ('bytes', 'KiB', 'MiB', 'GiB'):
        if size < 1000:
            return f'{size:.3g} {unit}'
        size /= 1024
    return f'{size:.3g} TiB'


def check_bytes(name: str, value: str) -> int:
    """The number of bytes that a text such as ``'2GiB'`` or ``'500 MB'`` says; units are powers of 1024.

    Raises:
        UsageError: the text says no size above 0.
    """
    found = _SIZE.fullmatch(value)
    size = int(float(found[1]) * _UNITS[found[2].lower()]) if found else 0
    if not size:
        raise UsageError(f"{name} is {value!r}: give a size such as '2GiB' or '500MiB'.")
    return size


def free_memory(proc: str = '/proc', cgroups: str = '/sys/fs/cgroup') -> int | None:
    """Bytes that can be taken before the machine, or the control group of the process, runs out of memory.

    Files that the kernel keeps in memory count as free, because it drops them for other data.

    Args:
        proc, cgroups: where the kernel shows them.

    Returns:
        The smallest of all that is known; None where nothing is (not on Linux).
    """
    known = [*_of_machine(Path(proc)), *_of_groups(Path(proc), Path(cgroups))]
    return max(0, min(known)) if known else None


def local_processes() -> int:
    """How many processes of this training run on this machine, by the launcher's environment; 1 without one."""
    for name in _LOCAL_PROCESSES:
        if (value := os.environ.get(name, '')).isdigit():
            return max(1, int(value))
    return 1


def _of_machine(proc: Path) -> Iterator[int]:
    found = re.search(r'^MemAvailable:\s+(\d+) kB', _text(proc / 'meminfo'), re.MULTILINE)
    if found:
        yield int(found[1]) * 1024


def _of_groups(proc: Path, cgroups: Path) -> Iterator[int]:
    """What each control group that the process is in leaves, of both versions of the interface."""
    for line in _text(proc / 'self/cgroup').splitlines():
        _, _, rest = line.partition(':')
        controllers, _, path = rest.partition(':')
        if controllers == '':
            root, limit, usage, files = cgroups, 'memory.max', 'memory.current', 'inactive_file'
        elif 'memory' in controllers.split(','):
            root, limit, usage = cgroups / 'memory', 'memory.limit_in_bytes', 'memory.usage_in_bytes'
            files = 'total_inactive_file'
        else:
            continue
        # A group is bound by those around it. Inside a container the path may be the host's, and only the root is seen.
        inner = root / path.strip('/')
        for group in (inner, *(above for above in inner.parents if above.is_relative_to(root))):
            most, used = _text(group / limit).strip(), _text(group / usage).strip()
            if most.isdigit() and used.isdigit():
                droppable = re.search(rf'^{files} (\d+)', _text(group / 'memory.stat'), re.MULTILINE)
                yield int(most) - int(used) + (int(droppable[1]) if droppable else 0)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # another system, another version of the interface
        return ''
