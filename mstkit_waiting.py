"""Bounds how long threads that wait for work spin; the programs import this module before anything that imports torch.

After each parallel loop, the threads of OpenMP (in torch's Linux wheels: libgomp) spin for a while in case that the
next one comes soon. A thread that spins on a core which another process needs holds up the thread that all wait for: a
training beside one busy process then takes many times as long. Threads that sleep at once (``OMP_WAIT_POLICY=PASSIVE``)
have to be woken, which makes a short step on a quiet machine a sixth longer. ``GOMP_SPINCOUNT`` says how often they
spin before they sleep; benchmarks/README.md has what was measured for :data:`SPINS`.

libgomp reads the variable when it is loaded, that is, when torch is imported. Hence this module
stands beside the package, needs the standard library only, and does nothing where torch is there already.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, MutableMapping

SPIN_COUNT = 'GOMP_SPINCOUNT'
THEIRS = ('OMP_WAIT_POLICY', SPIN_COUNT, 'KMP_BLOCKTIME')  # each says how threads wait: a user who set one keeps it
MARK = 'MSTKIT_WAITING'  # processes that are started from here know by it who chose
OURS, LIBRARY = 'short', 'library'
SPINS = 3000


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


if 'torch' not in sys.modules:
    wait_shortly(os.environ)
