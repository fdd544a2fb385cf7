"""A disk that fills up: at any moment of a run the last good checkpoint stays, and the run says what to do."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.chaos.forked_runs import ForkedRun
from tests.chaos.outcomes import Outcome, timed
from tests.chaos.small_runs import RUNS, SmallRun, broken_files, difference, last_checkpoint

SIZE = 200_000_000  # bytes of the disk
FULL = 3  # exit status


@contextlib.contextmanager
def small_disk(place: Path, size: int = SIZE) -> Iterator[Path]:
    """Context with a disk of its own, in memory. Needs the right to mount.

    Raises:
        PermissionError: without that right.
    """
    place.mkdir(parents=True)
    done = subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={size}', 'none', place], capture_output=True, text=True)
    if done.returncode:
        raise PermissionError(f'a disk cannot be mounted here: {done.stderr.strip()}')
    try:
        yield place
    finally:
        subprocess.run(['umount', '-l', place], check=True)


def fill(images: Path, folder: Path, count: int, seed: int = 0, runs: Sequence[SmallRun] = RUNS[:3]) -> Outcome:
    """Runs trainings on a disk that has room for a part of what they write, each part equally likely.

    A run has to end with 3 and one sentence about the disk, with every file whole; and with more room the run that is
    resumed has to end like one that had room from the start, to the bit.

    Args:
        images: of the trainings.
        folder: for the disk and the logs.
        count: of fillings.
        seed: of the room.
        runs: the kinds of trainings.
    """
    outcome = Outcome('disk', facts=dict(had_room=0, checkpoint_left=0, identical=0))
    dice = random.Random(seed)
    with timed(outcome), small_disk(folder / 'disk') as disk:
        wholes = {}
        for number in range(count):
            run = runs[number % len(runs)]
            work_dir, log = disk / 'run', folder / f'{number:03d}.log'
            if run.name not in wholes:
                _train(run, images, work_dir, log)
                wholes[run.name] = last_checkpoint(work_dir), SIZE - shutil.disk_usage(disk).free
                shutil.rmtree(work_dir)
            whole, needed = wholes[run.name]
            room = dice.uniform(0, needed)
            with open(disk / 'ballast', 'wb') as ballast:
                os.posix_fallocate(ballast.fileno(), 0, max(1, int(shutil.disk_usage(disk).free - room)))
            training = ForkedRun(run.words(images, work_dir), log)
            hangs = not training.wait()
            training.kill()
            fault = 'it hangs' if hangs else _fault(training, work_dir)
            outcome.facts['had_room'] += training.codes[0] == 0
            outcome.facts['checkpoint_left'] += (work_dir / 'last_checkpoint').exists()
            (disk / 'ballast').unlink()
            if fault is None:
                _train(run, images, work_dir, log, '--resume')
                found = difference(whole, last_checkpoint(work_dir))
                outcome.facts['identical'] += found is None
                fault = found and f'{found} differs from the run that had room'
            outcome.count(None if fault is None else f'{run.name} with room for {room / needed:.0%} ({log}): {fault}')
            shutil.rmtree(work_dir, ignore_errors=True)
    return outcome


def _train(run: SmallRun, images: Path, work_dir: Path, log: Path, *more: str) -> None:
    training = ForkedRun(run.words(images, work_dir, *more), log)
    if not training.wait() or training.codes[0]:
        training.kill()
        raise RuntimeError(f'{run.name} does not run: {training.said()[-600:]}')


def _fault(training: ForkedRun, work_dir: Path) -> str | None:
    """What is wrong with how it ended."""
    code, said = training.codes[0], training.said()
    if broken := broken_files(work_dir):
        return f'not whole: {", ".join(broken)}'
    if 'Traceback' in said:
        return f'a traceback: {said[-400:]}'
    if code == 0:
        return None
    if code != FULL or 'disk is full' not in said:
        return f'exit status {code}: {said[-400:]}'
    last = work_dir / 'last_checkpoint'
    if last.exists() and last.read_text() not in said:
        return f'it does not name {last.read_text()}: {said[-400:]}'
    return None
