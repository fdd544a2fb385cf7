"""Programs that take turns: one runs for some seconds while the others are stopped."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence

from contest.turns import in_turn


def take_turns(commands: Sequence[Sequence[str]], seconds: float | None) -> list[int]:
    """Runs programs to their ends, one at a time, each for some seconds before the next goes on.

    Whatever slows the machine down for minutes slows all of them down, so that they can be compared by the seconds that
    they computed. Every other round has the reverse order. A program and what it starts are a process group of their
    own, which is stopped as a whole; all are ended if this function does not come to its end.

    Args:
        commands: the words of each program.
        seconds: of a turn; None for as long as it takes.

    Returns:
        The exit status of each.
    """
    started: dict[int, subprocess.Popen[bytes]] = {}
    ended: dict[int, int] = {}
    turn = 0
    try:
        while len(ended) < len(commands):
            for number in in_turn(range(len(commands)), turn):
                if number in ended:
                    continue
                if number in started:
                    os.killpg(started[number].pid, signal.SIGCONT)
                else:
                    started[number] = subprocess.Popen(list(commands[number]), start_new_session=True)
                try:
                    ended[number] = started[number].wait(seconds)
                except subprocess.TimeoutExpired:
                    os.killpg(started[number].pid, signal.SIGSTOP)
            turn += 1
    finally:
        for number, process in started.items():
            if number not in ended:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return [ended[number] for number in range(len(commands))]
