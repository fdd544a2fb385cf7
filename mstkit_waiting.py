"""How threads wait for work and for a core; the programs import this module before anything that imports torch.

After each parallel loop, the threads of OpenMP (in torch's Linux wheels: libgomp) spin for a while in case that the
next one comes soon. A thread that spins on a core which another process needs holds up the thread that all wait for: a
training beside one busy process then takes many times as long. Threads that sleep at once (``OMP_WAIT_POLICY=PASSIVE``)
have to be woken, which makes a short step on a quiet machine a sixth longer. ``GOMP_SPINCOUNT`` says how often they
spin before they sleep; benchmarks/README.md has what was measured for :data:`SPINS`.

A thread that slept then waits for a core where others compute: up to Linux's usual turn of some milliseconds, many
times a step. From Linux 6.12 on a process may ask for shorter turns, of which it gets more: its share of the cores
stays the same, and a thread that wakes soon has its turn. Processes and threads that it starts have them, too.

libgomp reads the variable when it is loaded, that is, when torch is imported. Hence this module
stands beside the package, needs the standard library only, and does nothing where torch is there already.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping, MutableMapping

SPIN_COUNT = 'GOMP_SPINCOUNT'
THEIRS = ('OMP_WAIT_POLICY', SPIN_COUNT, 'KMP_BLOCKTIME')  # each says how threads wait: a user who set one keeps it
MARK = 'MSTKIT_WAITING'  # processes that are started from here know by it who chose
OURS, LIBRARY = 'short', 'library'
SPINS = 3000
TURN = 100_000  # nanoseconds: the shortest that Linux gives
_SET_AND_GET = {'x86_64': (314, 315), 'aarch64': (274, 275)}  # the numbers of Linux's calls for it, by processor


class _Scheduling(ctypes.Structure):
    """Linux's struct sched_attr."""

    _fields_ = [
        ('size', ctypes.c_uint32),
        ('policy', ctypes.c_uint32),
        ('flags', ctypes.c_uint64),
        ('nice', ctypes.c_int32),
        ('priority', ctypes.c_uint32),
        *((name, ctypes.c_uint64) for name in ('turn', 'deadline', 'period')),
    ]


def wait_shortly(environment: MutableMapping[str, str]) -> None:
    """Sets the number of spins, unless the user has set one of :data:`THEIRS`, or ``MSTKIT_WAITING=library``."""
    if MARK not in environment and not any(name in environment for name in THEIRS):
        environment[SPIN_COUNT] = str(SPINS)
        environment[MARK] = OURS


def how_threads_wait(environment: Mapping[str, str]) -> str:
    """How long they spin and who said so, for the log of a run."""
    given = {name: environment[name] for name in THEIRS if name in environment}
    said = ', '.join(f'{name}={value}' for name, value in given.items())
    if environment.get(MARK) == OURS and given == {SPIN_COUNT: str(SPINS)}:
        own = f'{", ".join(THEIRS[:-1])} or {THEIRS[-1]}'
        return f'idle threads soon sleep ({said}, set by the command; {own} of your own wins)'
    if given:
        return f'idle threads wait as the environment says ({said})'
    return f'idle threads wait as the OpenMP library has it ({SPIN_COUNT} is not set)'


def take_turns_of(nanoseconds: int) -> bool:
    """Asks Linux for turns of another length for this process, from 100,000 ns to 100,000,000; 0 for the usual ones.

    Returns:
        Whether it gives them: not before Linux 6.12, not on other systems or where that is forbidden, and not to a
        process of a policy that is not the usual one, which somebody chose.
    """
    now = _scheduling()
    if now is None or now.policy:
        return False
    now.turn = nanoseconds
    done = _call(0, os.getpid(), ctypes.byref(now), 0)
    return done == 0 and nanoseconds in (0, length_of_turns())


def length_of_turns(process: int | None = None) -> int | None:
    """The turns of a process, by default this one, in nanoseconds; None where Linux does not say it."""
    now = _scheduling(process)
    return None if now is None or now.policy else now.turn or None


def how_long_turns_are() -> str:
    """What a log says of them; empty where they are the usual ones."""
    if length_of_turns() != TURN:
        return ''
    return f'turns of {TURN / 1e6:.1f} ms where other processes want the same cores ({MARK}={LIBRARY}: the usual ones)'


def _scheduling(process: int | None = None) -> _Scheduling | None:
    found = _Scheduling(size=ctypes.sizeof(_Scheduling))
    done = _call(1, process or os.getpid(), ctypes.byref(found), ctypes.sizeof(found), 0)
    return found if done == 0 else None


def _call(which: int, *arguments: object) -> int:
    numbers = _SET_AND_GET.get(os.uname().machine) if sys.platform.startswith('linux') else None
    if numbers is None or sys.maxsize < 2**32:
        return -1
    return int(ctypes.CDLL(None).syscall(numbers[which], *arguments))


if 'torch' not in sys.modules:
    wait_shortly(os.environ)
    if os.environ.get(MARK) != LIBRARY:
        take_turns_of(TURN)
