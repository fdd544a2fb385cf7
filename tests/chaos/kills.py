"""Kills at random moments: what is resumed ends like what ran through, to the bit, and every file is whole."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.chaos.forked_runs import ForkedRun
from tests.chaos.outcomes import Outcome, timed
from tests.chaos.small_runs import RUNS, SmallRun, broken_files, difference, last_checkpoint

GENTLE = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE = 60.0  # seconds in which a run has to end after a signal


def whole_run(run: SmallRun, images: Path, folder: Path) -> tuple[dict[str, Any], float]:
    """A training that nothing disturbs: its last checkpoint, and the seconds that it took."""
    start = time.monotonic()
    training = ForkedRun(run.words(images, folder / 'whole'), folder / 'whole.log', run.ranks)
    if not training.wait() or any(training.codes.values()):
        training.kill()
        raise RuntimeError(f'{run.name} does not even run: {training.said()}')
    return last_checkpoint(folder / 'whole'), time.monotonic() - start


def kill(
    images: Path, folder: Path, count: int, seed: int = 0, runs: Sequence[SmallRun] = RUNS, gentle: bool = False
) -> Outcome:
    """Kills trainings, one after the other, at moments that are equally likely over the length of the whole.

    A training is resumed after each kill until it ends; then the next kind of training begins. Every fourth kill takes
    a data worker, whose training then has to end by itself.

    Args:
        images: of the trainings.
        folder: for their work dirs.
        count: of kills.
        seed: of the moments.
        runs: the kinds of trainings.
        gentle: SIGINT, SIGTERM and SIGHUP to the whole process group instead of SIGKILL.
    """
    outcome = Outcome('signals' if gentle else 'kills', facts=dict(ended=0, identical=0))
    dice = random.Random(seed)
    with timed(outcome):
        wholes: dict[str, tuple[dict[str, Any], float]] = {}
        number = 0
        while outcome.tried < count:
            run = runs[number % len(runs)]
            place = folder / f'{number:03d}'
            place.mkdir(parents=True)
            if run.name not in wholes:
                wholes[run.name] = whole_run(run, images, place)
            whole, length = wholes[run.name]
            _until_it_ends(run, images, place, length, dice, outcome, count, gentle)
            if outcome.tried < count or (place / 'done').exists():
                found = difference(whole, last_checkpoint(place / 'cut'))
                outcome.facts['ended'] += 1
                outcome.facts['identical'] += found is None
                if found:
                    outcome.faults.append(f'{run.name} in {place}: {found} differs from the uninterrupted run')
                else:
                    shutil.rmtree(place)
            number += 1
    return outcome


def _until_it_ends(
    run: SmallRun,
    images: Path,
    place: Path,
    length: float,
    dice: random.Random,
    outcome: Outcome,
    count: int,
    gentle: bool,
) -> None:
    more: tuple[str, ...] = ()
    while True:
        training = ForkedRun(run.words(images, place / 'cut', *more), place / 'cut.log', run.ranks)
        more = ('--resume',)
        last = outcome.tried >= count
        if training.wait(600 if last else dice.uniform(0, length)):
            if any(training.codes.values()):
                end = f'{run.name} ended with {training.codes}: {training.said()[-300:]}'
                outcome.faults.append(end)
                raise RuntimeError(end)
            (place / 'done').touch()
            return
        fault = _signal(training, dice, gentle) if gentle else _kill(training, dice, outcome.tried % 4 == 3)
        training.kill()
        broken = broken_files(place / 'cut')
        if fault is None and broken:
            fault = f'not whole: {", ".join(broken)}'
        outcome.count(None if fault is None else f'{run.name} in {place}: {fault}')


def _kill(training: ForkedRun, dice: random.Random, worker: bool) -> str | None:
    workers = training.workers() if worker else []
    if not workers:
        training.send(signal.SIGKILL)
        return None
    os.kill(dice.choice(workers), signal.SIGKILL)
    if not training.wait(PATIENCE):
        return f'it hangs since a worker was killed: {training.said()[-300:]}'
    if len(training.pids) == 1 and 'Traceback' in training.said():  # of several ranks the launcher speaks
        return f'a traceback when a worker was killed: {training.said()[-300:]}'
    return None


def _signal(training: ForkedRun, dice: random.Random, gentle: bool) -> str | None:
    number = dice.choice(GENTLE)
    training.send(number)
    if not training.wait(PATIENCE):
        return f'it still runs {PATIENCE:g} s after {number.name}: {training.said()[-300:]}'
    wanted = {0, 128 + number, -number}  # 0: it was at its end; -number: it did not train yet
    if not set(training.codes.values()) <= wanted:
        return f'exit status {training.codes} after {number.name}: {training.said()[-300:]}'
    if 'Traceback' in training.said():
        return f'a traceback after {number.name}: {training.said()[-300:]}'
    return None
