"""Places that are taken away while a training runs: its images, its work dir, the right to write there."""

from __future__ import annotations

import ctypes
import os
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.chaos.forked_runs import ForkedRun
from tests.chaos.kills import PATIENCE, whole_run
from tests.chaos.outcomes import Outcome, timed
from tests.chaos.small_runs import RUNS, SmallRun, broken_files, difference, last_checkpoint

CAPABILITIES = 0x20080522  # the version of the kernel's structures
STOPPED = {0, 2, 3}  # exit status: at its end, or with a sentence


def rename(path: Path) -> Callable[[], object]:
    """Takes a folder away; returns what brings it back."""
    away = path.with_name(f'{path.name}_away')
    path.rename(away)

    def bring_back() -> None:
        if path.exists():  # made again by the run, which has written there since
            shutil.copytree(path, away, dirs_exist_ok=True)
            shutil.rmtree(path)
        away.rename(path)

    return bring_back


def forbid(path: Path) -> Callable[[], object]:
    """Takes the right to write away, in all folders below; returns what gives it back."""
    folders = [Path(folder) for folder, _, _ in os.walk(path)]
    for folder in folders:
        folder.chmod(0o555)

    def give_back() -> None:
        for folder in folders:
            folder.chmod(0o755)

    return give_back


def be_as_any_user() -> None:
    """Takes the administrator's capabilities away from this process, who otherwise may write everywhere."""
    header, nothing = (ctypes.c_uint32 * 2)(CAPABILITIES, 0), (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None).capset(header, nothing):
        raise PermissionError('the capabilities of a process cannot be taken away here')


PLACES = ('images', 'work dir', 'right to write')


def take(images: Path, folder: Path, count: int, seed: int = 0, runs: Sequence[SmallRun] = RUNS[:3]) -> Outcome:
    """Takes a place away at a moment that is equally likely over the length of the whole training.

    The training has to end by itself, with one sentence if it was not at its end, and every file whole. With the place
    back it has to end like one that was not disturbed, to the bit.

    Args:
        images: of the trainings.
        folder: for copies of the images, and work dirs.
        count: of places taken away.
        seed: of the moments.
        runs: the kinds of trainings.
    """
    outcome = Outcome('places', facts=dict(stopped=0, identical=0))
    dice = random.Random(seed)
    with timed(outcome):
        wholes = {}
        for number in range(count):
            run, kind = runs[number // len(PLACES) % len(runs)], PLACES[number % len(PLACES)]
            place = folder / f'{number:03d}'
            place.mkdir()
            if run.name not in wholes:
                wholes[run.name] = whole_run(run, images, place)
            whole, length = wholes[run.name]
            shutil.copytree(images, place / 'images')
            (place / 'cut').mkdir()
            fault = _take(run, kind, place, dice.uniform(0, length), outcome)
            if fault is None:
                found = difference(whole, last_checkpoint(place / 'cut'))
                outcome.facts['identical'] += found is None
                fault = found and f'{found} differs from the undisturbed run'
            outcome.count(fault and f'{run.name}, {kind} ({place}): {fault}')
            if fault is None:
                shutil.rmtree(place)
    return outcome


def _take(run: SmallRun, kind: str, place: Path, moment: float, outcome: Outcome) -> str | None:
    words = [*run.words(place / 'images', place / 'cut'), 'train_dataloader.dataset.memory=False']
    training = ForkedRun(words, place / 'log', prepare=be_as_any_user)
    training.wait(moment)
    victim = place / ('images' if kind == 'images' else 'cut')
    bring_back = (forbid if kind == 'right to write' else rename)(victim)
    hangs = not training.wait(PATIENCE)
    training.kill()
    bring_back()
    said, code = training.said(), training.codes[0]
    if hangs:
        return f'it hangs: {said[-400:]}'
    if code not in STOPPED or 'Traceback' in said:
        return f'it ends with {code}: {said[-600:]}'
    if broken := broken_files(place / 'cut'):
        return f'not whole: {", ".join(broken)}'
    if code == 0:
        return None
    outcome.facts['stopped'] += 1
    again = ForkedRun([*words, '--resume'], place / 'log', prepare=be_as_any_user)
    ended = again.wait()
    again.kill()
    return None if ended and again.codes[0] == 0 else f'it does not go on: {again.said()[-600:]}'
