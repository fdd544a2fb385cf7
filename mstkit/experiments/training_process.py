"""Runs one training as a process: starts it, monitors its log, ends it, and keeps its record."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from mstkit.errors import UsageError
from mstkit.experiments.job import FAILED, FINISHED, LOG, RUNNING, STOPPED, Job

_ERROR = re.compile(r'error: |[\w.]*(?:Error|Exception|Exit)\b')
# mmengine's: "Epoch(train)  [3][ 25/50]  lr: 1e-4  eta: 0:01:30  time: ...", or "Iter(train) [ 25/500]  ...".
_PROGRESS = re.compile(r'(?:Epoch|Iter)\((train|val)\) +(?:\[ *(\d+)\])?\[ *(\d+)/(\d+)\](?:.*? eta: (.+?)  )?')
_TAIL = 1 << 16  # bytes at the end of the log that are searched for the progress


class Training:
    """A process of ``tools/train.py``, or of the job's own program.

    Args:
        job: to be trained.
        program: the path of ``tools/train.py``.
        environment: variables to add to those of this process.
        slots: number of trainings at the same time; recorded, because the seconds depend on it.

    Raises:
        UsageError: another process is training the job.
    """

    def __init__(self, job: Job, program: Path, environment: dict[str, str], slots: int) -> None:
        self.job = job
        lock = job.lock()
        if lock is None:
            raise UsageError(f'{job.folder} is being trained by another process; wait for it, or stop it.')
        resume = job.resume_arguments()
        self.before = float(job.record().get('seconds', 0.0)) if resume else 0.0
        self.notes = dict(command=job.command(program, environment), jobs=slots)
        self.log = job.folder / LOG
        self.log_start = self.log.stat().st_size if self.log.exists() else 0
        self.seen, self.told = self._stamp(), job.headline()
        self.started = time.monotonic()
        try:
            self._write(RUNNING)
            with open(self.log, 'ab') as log:
                self.process = subprocess.Popen(
                    [sys.executable, str(job.program or program), *job.arguments, *resume],
                    env={**os.environ, 'MSTKIT_SCREEN': 'full', **environment},  # its progress is read in the log
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    # Its own process group: Ctrl-C reaches only this process, which ends the group with data workers.
                    start_new_session=True,
                    pass_fds=(lock,),
                )
        finally:
            os.close(lock)  # the process holds it now

    @property
    def seconds(self) -> float:
        """Time spent on the job so far, including earlier processes."""
        return self.before + time.monotonic() - self.started

    def news(self) -> str | None:
        """The newest measurement, if it has not been returned before."""
        stamp = self._stamp()
        if stamp == self.seen:
            return None
        self.seen = stamp
        headline = self.job.headline()
        if headline is None or headline == self.told:
            return None
        self.told = headline
        self._write(RUNNING)
        return headline

    def place(self) -> str:
        """The progress of the training, from the newest line of its log that shows it.

        Also updates the time in the record, in case this process is killed.
        """
        self._write(RUNNING)
        with open(self.log, 'rb') as log:
            log.seek(max(self.log_start, self.log.stat().st_size - _TAIL))
            found = _PROGRESS.findall(log.read().decode('utf-8', 'replace'))
        if not found:
            return f'begun {duration(time.monotonic() - self.started)} ago'
        mode, epoch, done, total, rest = found[-1]
        if mode == 'val':
            return f'measuring, {done} of {total}'
        length = f' of {self.job.length}' if self.job.length else ''
        words = [f'epoch {epoch}{length}'] if epoch else []
        words += [f'iteration {done} of {total}', *([f'{rest} to go'] if rest else [])]
        return ', '.join(words)

    def end(self) -> str | None:
        """Records how the training ended, if it has.

        Returns:
            The status, or None while it runs.
        """
        code = self.process.poll()
        if code is None:
            return None
        error = self._reason(code) if code else self.job.complaint()
        status = FINISHED if error is None else FAILED
        self._write(status, code, error)
        return status

    def ask_to_stop(self) -> None:
        """Sends SIGTERM without waiting: the training ends its step, writes a checkpoint and can be resumed."""
        self.process.terminate()  # not its workers, without which it could not end the step

    def stop(self) -> None:
        """Kills the training if it still runs, and records that it was stopped."""
        if self.process.poll() == 0:  # finished in the meantime
            self.end()
            return
        self._signal(signal.SIGKILL)  # also what is left of its data workers
        self.process.wait()
        self._write(STOPPED)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # the group has ended already
            os.killpg(self.process.pid, number)

    def _write(self, status: str, exit_code: int | None = None, error: str | None = None) -> None:
        self.job.write(status=status, seconds=round(self.seconds, 1), exit_code=exit_code, error=error, **self.notes)

    def _reason(self, code: int) -> str:
        """The last line of this process's log that looks like an error, or else the last line."""
        if code < 0:
            by = signal.Signals(-code).name
            return f'killed by {by}' + (' (out of memory?)' if -code == signal.SIGKILL else '')
        with open(self.log, 'rb') as log:
            log.seek(self.log_start)
            lines = [line.strip() for line in log.read().decode('utf-8', 'replace').splitlines() if line.strip()]
        errors = [line for line in lines if _ERROR.match(line)]
        return (errors or lines or [f'exit code {code}, and nothing in {self.log}'])[-1].removeprefix('error: ')

    def _stamp(self) -> list[tuple[Path, int]]:
        return [(path, path.stat().st_mtime_ns) for path in self.job.results() if path.exists()]


def duration(seconds: float) -> str:
    """Formats a duration in seconds, minutes or hours."""
    if seconds < 100:
        return f'{seconds:.0f} s'
    return f'{seconds / 60:.0f} min' if seconds < 6000 else f'{seconds / 3600:.1f} h'
