"""Lets threads that wait for work sleep; the programs import this module first, for what it does to the environment.

After each parallel loop, the threads of OpenMP (torch's libgomp, or Intel's libiomp) spin for a while in case that the
next one comes soon. A thread that spins on a core which another process needs holds up the thread that all wait for:
a training beside one busy process then takes many times as long. With ``OMP_WAIT_POLICY=PASSIVE`` both libraries sleep
at once.

They read the variable when they are loaded, that is, when torch is imported. Importing mstkit imports torch, so this
module stands beside the package, needs the standard library only, and does nothing where torch is there already.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, MutableMapping

POLICY = 'OMP_WAIT_POLICY'
THEIRS = (POLICY, 'GOMP_SPINCOUNT', 'KMP_BLOCKTIME')  # each says how threads wait: a user who set one keeps it
MARK = 'MSTKIT_WAITING'  # processes that are started from here know by it who chose
OURS, LIBRARY = 'passive', 'library'


def wait_passively(environment: MutableMapping[str, str]) -> None:
    """Sets the policy, unless the user has set one of :data:`THEIRS`, or ``MSTKIT_WAITING=library`` to have none."""
    if MARK not in environment and not any(name in environment for name in THEIRS):
        environment[POLICY] = 'PASSIVE'
        environment[MARK] = OURS


def how_threads_wait(environment: Mapping[str, str]) -> str:
    """The policy and who set it, for the log of a run."""
    given = {name: environment[name] for name in THEIRS if name in environment}
    said = ', '.join(f'{name}={value}' for name, value in given.items())
    if environment.get(MARK) == OURS and given == {POLICY: 'PASSIVE'}:
        own = f'{", ".join(THEIRS[:-1])} or {THEIRS[-1]}'
        return f'idle threads sleep ({said}, set by the command; {own} of your own wins)'
    if given:
        return f'idle threads wait as the environment says ({said})'
    return f'idle threads wait as the OpenMP library has it ({POLICY} is not set)'


if 'torch' not in sys.modules:
    wait_passively(os.environ)
