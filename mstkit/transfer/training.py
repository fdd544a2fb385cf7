"""Trains the runs of a transfer one after the other, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mstkit.transfer.plan import FAILED, FINISHED, STARTED, Run
from mstkit.transfer.results import read_curves, shown

LOG = 'train.log'
_POLL = 1.0  # seconds


def train(runs: Sequence[Run], program: Path, after_each: Callable[[], object], say: Callable[[str], object]) -> bool:
    """Trains what is not finished; interrupted runs go on from their last checkpoint.

    Args:
        runs: all of them, in order.
        program: the path of ``tools/train.py``.
        after_each: called whenever one has ended.
        say: takes a line for the user.

    Returns:
        Whether all of them are finished.
    """
    done = True
    for number, run in enumerate(runs, start=1):
        title = f'[{number}/{len(runs)}] {run.name}'
        if run.record().get('status') == FINISHED:
            say(f'{title}: finished already')
            continue
        say(f'{title}: {"goes on" if run.checkpoint else "starts"} in {run.folder}')
        error = _train(run, program, lambda line, title=title: say(f'{title}: {line}'))  # type: ignore[misc]
        say(f'{title}: {"finished in " + _minutes(run) if error is None else "failed: " + error}')
        done = done and error is None
        after_each()
    return done


def _train(run: Run, program: Path, say: Callable[[str], object]) -> str | None:
    """Trains one run; returns what was wrong, or None."""
    resume = ['--resume'] if run.checkpoint else []
    before = float(run.record().get('seconds', 0.0)) if resume else 0.0
    started = time.monotonic()

    def seconds() -> float:
        return round(before + time.monotonic() - started, 1)

    run.write(status=STARTED, seconds=before)
    with open(run.folder / LOG, 'ab') as log:
        log_start = log.tell()
        process = subprocess.Popen(
            [sys.executable, str(program), *run.arguments(), *resume],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        seen = sum(len(curve) for curve in read_curves(run).values())
        try:
            while process.poll() is None:
                time.sleep(_POLL)
                curves = read_curves(run)
                points = sum(len(curve) for curve in curves.values())
                if points > seen:
                    seen = points
                    say(', '.join(f'{name} {shown(curve[-1][1])}' for name, curve in curves.items() if curve))
                    run.write(status=STARTED, seconds=seconds())
        except BaseException:
            process.terminate()
            process.wait()
            run.write(status=STARTED, seconds=seconds())
            raise
    error = None
    if process.returncode:
        error = _last_words(run.folder / LOG, log_start) or f'exit code {process.returncode}'
    elif not any(read_curves(run).values()):
        error = 'it ended without having measured anything'
    run.write(status=FAILED if error else FINISHED, seconds=seconds(), error=error)
    return error


def _last_words(log: Path, start: int) -> str | None:
    with open(log, 'rb') as file:
        file.seek(start)
        lines = [line.strip() for line in file.read().decode('utf-8', 'replace').splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith('error: ') or 'Error: ' in line.split(' ')[0] + ' ']
    return next(iter((errors or lines)[-1:]), None)


def _minutes(run: Run) -> str:
    return f'{run.record()["seconds"] / 60:.1f} min'
