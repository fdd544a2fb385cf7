"""Signals that ask a program to end are noted instead of ending it on the spot."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C; kill, Slurm, Kubernetes; a closed terminal


@contextmanager
def noted_signals(tell: Callable[[signal.Signals, int], None] | None = None) -> Iterator[list[signal.Signals]]:
    """Context in which SIGINT, SIGTERM and SIGHUP are put into a list.

    What is ignored stays ignored, such as SIGHUP under ``nohup``. Outside the main thread, where Python cannot take
    signals, nothing changes. A process that is forked inside, such as a worker of a loader, ignores SIGINT and SIGHUP,
    which a terminal sends to all its processes, and is ended by SIGTERM.

    Args:
        tell: called at each signal with it and with how many there were until now. It runs between any two
            instructions of the program, so it must not print; what it raises is raised there.
    """
    received: list[signal.Signals] = []
    owner = os.getpid()

    def note(number: int, _: object) -> None:
        if os.getpid() != owner:
            if number == signal.SIGTERM:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        received.append(signal.Signals(number))
        if tell is not None:
            tell(received[-1], len(received))

    before = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in ENDING:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    before[number] = signal.signal(number, note)
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
