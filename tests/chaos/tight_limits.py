"""A machine that has little: memory, open files, shared memory, one core, small files. A run ends well, or says why."""

from __future__ import annotations

import ctypes
import functools
import os
import random
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.chaos.forked_runs import ForkedRun
from tests.chaos.outcomes import Outcome, timed
from tests.chaos.small_runs import RUNS, broken_files

NEW_MOUNTS = 0x00020000  # CLONE_NEWNS
MB = 1 << 20


def few_files(dice: random.Random) -> None:
    """At most so many open files, from hardly more than are open now."""
    count = len(os.listdir('/proc/self/fd')) + dice.randrange(1, 60)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))


def little_memory(dice: random.Random) -> None:
    """So much address space more than is taken now."""
    taken = int(Path('/proc/self/statm').read_text().split()[0]) * os.sysconf('SC_PAGE_SIZE')
    limit = taken + int(dice.uniform(1, 600) * MB)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def small_shm(dice: random.Random) -> None:
    """A /dev/shm of its own, of 16 MB in one of three cases, else of hardly anything."""
    if ctypes.CDLL(None).unshare(NEW_MOUNTS):
        raise PermissionError('a process cannot get mounts of its own here')
    size = dice.choice(('16m', '128k', '32k'))
    subprocess.run(['mount', '--make-rprivate', '/'], check=True)
    subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={size}', 'none', '/dev/shm'], check=True)


def one_core(dice: random.Random) -> None:
    """One of the cores that the process may use."""
    os.sched_setaffinity(0, {dice.choice(sorted(os.sched_getaffinity(0)))})


def small_files(dice: random.Random) -> None:
    """Files of at most so many bytes: more than the log has, and down to less than a checkpoint.

    As a disk that is full at any write, where none can be mounted.
    """
    size = int(dice.uniform(0.1, 4) * MB)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


LIMITS: dict[str, Callable[[random.Random], None]] = dict(
    files=few_files, memory=little_memory, shm=small_shm, core=one_core, size=small_files
)


def limit(images: Path, folder: Path, count: int, seed: int = 0) -> Outcome:
    """Runs trainings with one of :data:`LIMITS` each, in turns.

    A run may end with 0, or with 2 or 3 and a last line that begins with ``error:``; no hanging, and all files
    whole. What a data worker says at its end may stand above that line.

    Args:
        images: of the trainings.
        folder: for their work dirs.
        count: of trainings.
        seed: of how tight the limits are.
    """
    outcome = Outcome('limits', facts=dict(ended_well=0))
    with timed(outcome):
        for number in range(count):
            name, tighten = list(LIMITS.items())[number % len(LIMITS)]
            run, place = RUNS[number // len(LIMITS) % 3], folder / f'{number:03d}'
            place.mkdir()
            dice = random.Random(seed + number)
            training = ForkedRun(
                run.words(images, place / 'run'), place / 'log', prepare=functools.partial(tighten, dice)
            )
            hangs = not training.wait(180)
            training.kill()
            said, code = training.said(), training.codes[0]
            outcome.facts['ended_well'] += code == 0
            broken = broken_files(place / 'run') if (place / 'run').exists() else []
            fault = None
            if hangs:
                fault = f'it hangs: {said[-300:]}'
            elif code and (code not in (2, 3) or not said.splitlines()[-1].startswith('error:')):
                fault = f'ended with {code}: {said[-900:]}'
            elif broken:
                fault = f'not whole: {", ".join(broken)}'
            outcome.count(fault and f'{run.name}, {name} ({place}): {fault}')
    return outcome
