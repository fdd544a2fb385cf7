"""Programs that take turns: some run for some seconds while the others are stopped."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from collections.abc import Sequence

from contest.turns import in_turn


def take_turns(commands: Sequence[Sequence[str]], seconds: float | None, at_once: int = 1) -> list[int]:
    """Runs programs to their ends, some at a time, each for some seconds before the next go on.

    Whatever slows the machine down for minutes slows all of them down, so that they can be compared by the seconds that
    they computed. Where several run at a time, each runs beside every other one equally often: what two of them take
    from each other, the memory's bandwidth for one, is not one program's alone. Every other round has the reverse
    order. A program and what it starts are a process group of their own, which is stopped as a whole; all are ended if
    this function does not come to its end.

    Args:
        commands: the words of each program.
        seconds: of a turn; None for as long as it takes.
        at_once: how many run at a time.

    Returns:
        The exit status of each.
    """
    started: dict[int, subprocess.Popen[bytes]] = {}
    ended: dict[int, int] = {}
    turn = 0
    try:
        while len(ended) < len(commands):
            left = [number for number in range(len(commands)) if number not in ended]
            for party in in_turn(parties(left, at_once), turn):
                running = [number for number in party if number not in ended]
                for number in running:
                    if number in started:
                        os.killpg(started[number].pid, signal.SIGCONT)
                    else:
                        started[number] = subprocess.Popen(list(commands[number]), start_new_session=True)
                until = None if seconds is None else time.monotonic() + seconds
                for number in running:
                    try:
                        rest = None if until is None else max(0.0, until - time.monotonic())
                        ended[number] = started[number].wait(rest)
                    except subprocess.TimeoutExpired:
                        os.killpg(started[number].pid, signal.SIGSTOP)
            turn += 1
    finally:
        for number, process in started.items():
            if number not in ended:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return [ended[number] for number in range(len(commands))]


def parties(numbers: Sequence[int], size: int) -> list[tuple[int, ...]]:
    """All groups of some of the numbers, the last behind the first, the last but one behind the second, and so on.

    With half of the numbers in a group, one group is followed by the others of them: nobody rests for long.
    """
    groups = list(itertools.combinations(numbers, min(size, len(numbers))))
    return [groups[index // 2 if index % 2 == 0 else -1 - index // 2] for index in range(len(groups))]
