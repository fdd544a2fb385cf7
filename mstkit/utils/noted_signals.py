"""Signals that ask a program to end are noted instead of ending it on the spot."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mstkit.utils.private_attributes import end_process

GRACE = 20  # seconds
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


class OutlivingWorker:
    """Start of a data worker that lives on for :data:`GRACE` seconds when SIGTERM comes from a stranger.

    Slurm sends it to all processes of a job at once, and a training needs its workers to end its step. When the
    training itself sends it, they end at once, as without this. SIGINT and SIGHUP, which a terminal sends to all, are
    ignored. Where the system does not tell who sent a signal (macOS), SIGTERM always ends them.

    Args:
        first: what the worker does at its start otherwise; it gets the worker's number.
    """

    def __init__(self, first: Callable[[int], None] | None = None) -> None:
        self.first = first

    def __call__(self, worker: int) -> None:
        """Called in the worker."""
        if self.first is not None:
            self.first(worker)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if sys.platform == 'linux':
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # for the thread, which inherits it, to take
            threading.Thread(target=_watch, daemon=True, name='signals').start()


def _watch() -> None:
    """Waits for SIGTERM in a data worker."""
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        timer = threading.Timer(GRACE, end_process, (128 + signal.SIGTERM,))
        timer.daemon = True
        timer.start()
    end_process(0)
