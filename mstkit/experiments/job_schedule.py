"""Runs jobs, several at a time; if one fails, the others still run."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from mstkit.errors import UsageError
from mstkit.experiments.job import FAILED, FINISHED, Job
from mstkit.experiments.job_devices import slot_environments
from mstkit.experiments.training_process import Training, duration
from mstkit.utils.noted_signals import noted_signals

_POLL = 0.2  # seconds
_PATIENCE = 30.0  # seconds between SIGTERM, after which a training ends its step and writes a checkpoint, and SIGKILL
_SILENCE = 30.0  # seconds without a line, after which the progress of a training is printed


def run_jobs(
    jobs: Sequence[Job],
    program: Path,
    slots: int,
    after_each: Callable[[], object],
    say: Callable[[str], object],
) -> None:
    """Trains every job that is not finished.

    On SIGINT, SIGTERM or SIGHUP the trainings are ended and recorded as stopped, so that they can be resumed. A second
    signal kills them at once.

    Args:
        jobs: all jobs; finished ones are skipped.
        program: the path of ``tools/train.py``.
        slots: number of trainings at the same time.
        after_each: called whenever one has ended, to write a table; an error in it is printed and stops nothing.
        say: prints a line for the user.

    Raises:
        UsageError: a job is being trained by another process.
        KeyboardInterrupt: a signal came.
    """
    schedule = _Schedule(jobs, program, slots, say)
    with noted_signals() as received:
        try:
            while schedule.start_what_fits():
                time.sleep(_POLL)
                if received:
                    raise KeyboardInterrupt
                if schedule.watch():
                    try:
                        after_each()
                    except (OSError, UsageError) as error:
                        say(f'the table could not be written: {error}')  # the trainings go on
        finally:
            schedule.stop(lambda: len(received) > 1)


def failures(jobs: Sequence[Job]) -> str | None:
    """A sentence that lists the jobs that are not finished; None if all are."""
    failed = [job.name for job in jobs if job.record().get('status') != FINISHED]
    kind = jobs[0].KIND if len({job.KIND for job in jobs}) == 1 else 'job'
    return f'{len(failed)} of {len(jobs)} {kind}s failed: {"; ".join(failed)}' if failed else None


def durations(jobs: Sequence[Job]) -> dict[str, float]:
    """Mean seconds of the finished jobs, by their pace."""
    found: dict[str, list[float]] = {}
    for job in jobs:
        record = job.record()
        if record.get('status') == FINISHED:
            found.setdefault(job.pace, []).append(record['seconds'])
    return {pace: statistics.fmean(seconds) for pace, seconds in found.items()}


class _Schedule:
    """The jobs that wait, and the trainings in the slots."""

    def __init__(self, jobs: Sequence[Job], program: Path, slots: int, say: Callable[[str], object]) -> None:
        self.jobs, self.program, self.slots, self.say = jobs, program, slots, say
        self.title = {job.name: f'[{number}/{len(jobs)}] {job.name}' for number, job in enumerate(jobs, start=1)}
        self.waiting = deque(job for job in jobs if job.record().get('status') != FINISHED)
        for job in self.waiting:
            if job.is_locked():
                raise UsageError(f'{job.folder} is being trained by another process; wait for it, or stop it.')
        self.done = len(jobs) - len(self.waiting)
        if self.done:
            kind = jobs[0].KIND if len({job.KIND for job in jobs}) == 1 else 'job'
            say(f'{self.done} of {len(jobs)} {kind}s are finished already')
        self.environments = slot_environments(slots)
        self.running: dict[int, Training] = {}
        self.spoke: dict[str, float] = {}  # time of the last line, by the job's name

    def start_what_fits(self) -> bool:
        """Starts jobs in free slots; False if nothing is running afterwards."""
        for slot, environment in enumerate(self.environments):
            job = self._next() if slot not in self.running else None
            if job is not None:
                self._tell(job, f'{"resumes" if job.resume_arguments() else "starts"} in {job.folder}')
                self.running[slot] = Training(job, self.program, environment, self.slots)
        return bool(self.running)

    def _next(self) -> Job | None:
        """Takes the first waiting job that can be run; those whose earlier job has failed are left out, and said."""
        trained = {training.job.name for training in self.running.values()}
        to_come = {job.name for job in self.waiting}
        for job in list(self.waiting):
            if job.after is None or job.after.record().get('status') == FINISHED:
                self.waiting.remove(job)
                return job
            if job.after.name not in trained | to_come:
                self.waiting.remove(job)
                self.done += 1
                self._tell(job, f'left out, because {job.after.name} failed; {self.done} of {len(self.jobs)} done')
        return None

    def watch(self) -> bool:
        """Prints new measurements and the ends of trainings; returns whether one has ended."""
        ended = False
        for slot, training in list(self.running.items()):
            news = training.news()
            if news:
                self._tell(training.job, news)
            status = training.end()
            if status is None:
                continue
            ended = True
            del self.running[slot]
            self.done += 1
            how = f'finished in {duration(training.seconds)}'
            if status == FAILED:
                record = training.job.record()
                how = f'failed after {duration(training.seconds)} (exit code {record["exit_code"]}): {record["error"]}'
            self._tell(training.job, f'{how}; {self.done} of {len(self.jobs)} done{self._remaining()}')
        self._break_silence()
        return ended

    def stop(self, at_once: Callable[[], bool]) -> None:
        """Ends all running trainings: SIGTERM first, then SIGKILL after a while or if ``at_once()`` is true."""
        for training in self.running.values():
            training.ask_to_stop()
        deadline = time.monotonic() + _PATIENCE
        while any(training.process.poll() is None for training in self.running.values()):
            if time.monotonic() > deadline or at_once():
                break
            time.sleep(_POLL / 2)
        for training in self.running.values():
            training.stop()

    def _tell(self, job: Job, line: str) -> None:
        self.spoke[job.name] = time.monotonic()
        self.say(f'{self.title[job.name]}: {line}')

    def _break_silence(self) -> None:
        """Prints the progress of the training with the oldest line, if nothing was printed for a while."""
        if self.running and time.monotonic() - max(self.spoke.values()) >= _SILENCE:
            training = min(self.running.values(), key=lambda one: self.spoke[one.job.name])
            self._tell(training.job, training.place())

    def _remaining(self) -> str:
        """An estimate of the remaining time, from the mean duration of finished jobs of a kind; empty without any."""
        paces = durations(self.jobs)
        left = [(job, 0.0) for job in self.waiting] + [(one.job, one.seconds) for one in self.running.values()]
        known = [max(0.0, paces[job.pace] - seconds) for job, seconds in left if job.pace in paces]
        if not known:
            return ''
        more = len(left) - len(known)
        others = f', and {more} of which none of their kind is finished yet' if more else ''
        return f', about {duration(sum(known) / min(self.slots, len(known)))} to go{others}'
