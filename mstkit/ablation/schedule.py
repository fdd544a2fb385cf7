"""Runs the cells of an ablation, several at a time, and goes on when one of them fails."""

from __future__ import annotations

import signal
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mstkit.ablation.cells import FAILED, FINISHED, Cell
from mstkit.ablation.devices import slot_environments
from mstkit.ablation.training import Training
from mstkit.errors import UsageError

_POLL = 0.2  # seconds
_PATIENCE = 10.0  # seconds that trainings have to end after they were asked to


def run_cells(
    cells: Sequence[Cell],
    program: Path,
    jobs: int,
    after_each: Callable[[], object],
    say: Callable[[str], object],
) -> None:
    """Trains every cell that is not finished.

    On SIGINT, SIGTERM or SIGHUP the trainings are ended, each written down as one to go on with. A second signal does
    not wait for them.

    Args:
        cells: all of them; finished ones are passed over.
        program: the path of ``tools/train.py``.
        jobs: how many at once.
        after_each: called whenever one has ended.
        say: takes a line for the user.

    Raises:
        UsageError: a cell is being trained by another process.
        KeyboardInterrupt: a signal came.
    """
    schedule = _Schedule(cells, program, jobs, say)
    with _signals() as received:
        try:
            while schedule.start_what_fits():
                time.sleep(_POLL)
                if received:
                    raise KeyboardInterrupt
                if schedule.look():
                    after_each()
        finally:
            schedule.stop(lambda: len(received) > 1)


class _Schedule:
    """Which cells wait, and which are being trained in which slot."""

    def __init__(self, cells: Sequence[Cell], program: Path, jobs: int, say: Callable[[str], object]) -> None:
        self.cells, self.program, self.jobs, self.say = cells, program, jobs, say
        self.title = {cell.name: f'[{number}/{len(cells)}] {cell.name}' for number, cell in enumerate(cells, start=1)}
        self.waiting = deque(cell for cell in cells if cell.record().get('status') != FINISHED)
        for cell in self.waiting:
            if cell.is_locked():
                raise UsageError(f'{cell.folder} is being trained by another process; wait for it, or stop it.')
        self.done = len(cells) - len(self.waiting)
        if self.done:
            say(f'{self.done} of {len(cells)} cells are finished already')
        self.environments = slot_environments(jobs)
        self.running: dict[int, Training] = {}

    def start_what_fits(self) -> bool:
        """Fills the free slots; False where nothing is left to do."""
        for slot, environment in enumerate(self.environments):
            if slot not in self.running and self.waiting:
                cell = self.waiting.popleft()
                goes_on = 'goes on' if cell.has_checkpoint() else 'starts'
                self.say(f'{self.title[cell.name]}: {goes_on} in {cell.folder}')
                self.running[slot] = Training(cell, self.program, environment, self.jobs)
        return bool(self.running)

    def look(self) -> bool:
        """Tells what is new, and whether a training has ended."""
        ended = False
        for slot, training in list(self.running.items()):
            title = self.title[training.cell.name]
            news = training.news()
            if news:
                self.say(f'{title}: {news}')
            status = training.end()
            if status is None:
                continue
            ended = True
            del self.running[slot]
            self.done += 1
            how = f'finished in {duration(training.seconds)}'
            if status == FAILED:
                record = training.cell.record()
                how = f'failed after {duration(training.seconds)} (exit code {record["exit_code"]}): {record["error"]}'
            self.say(f'{title}: {how}; {self.done} of {len(self.cells)} done{self._remaining()}')
        return ended

    def stop(self, at_once: Callable[[], bool]) -> None:
        """Ends what is still running."""
        for training in self.running.values():
            training.ask_to_stop()
        deadline = time.monotonic() + _PATIENCE
        while any(training.process.poll() is None for training in self.running.values()):
            if time.monotonic() > deadline or at_once():
                break
            time.sleep(_POLL / 2)
        for training in self.running.values():
            training.stop()

    def _remaining(self) -> str:
        """An estimate from the cells that are finished: the others take as long as their mean."""
        records = [cell.record() for cell in self.cells]
        finished = [record['seconds'] for record in records if record.get('status') == FINISHED]
        if not finished or not (self.waiting or self.running):
            return ''
        each = statistics.fmean(finished)
        work = each * len(self.waiting) + sum(max(0.0, each - one.seconds) for one in self.running.values())
        return f', about {duration(work / min(self.jobs, len(self.waiting) + len(self.running)))} to go'


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects the signals that ask to stop, so that none comes between starting a process and knowing it."""
    received: list[int] = []
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                before[number] = signal.signal(number, lambda number, _: received.append(number))
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def duration(seconds: float) -> str:
    """A time for people."""
    if seconds < 100:
        return f'{seconds:.0f} s'
    return f'{seconds / 60:.0f} min' if seconds < 6000 else f'{seconds / 3600:.1f} h'
