"""One training of a cell as a process: started, watched, ended, and written down."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from mstkit.ablation.cells import FAILED, FINISHED, LOG, RUNNING, STOPPED, Cell
from mstkit.engine.json_lines import EpochLines
from mstkit.errors import UsageError

_ERROR = re.compile(r'error: |[\w.]*(?:Error|Exception|Exit)\b')


class Training:
    """A process of ``tools/train.py`` for a cell.

    Args:
        cell: the cell, which nobody else is training.
        program: the path of ``tools/train.py``.
        environment: variables to add to those of this process.
        jobs: how many run at once; kept for whoever reads the seconds.

    Raises:
        UsageError: somebody else is training the cell.
    """

    def __init__(self, cell: Cell, program: Path, environment: dict[str, str], jobs: int) -> None:
        self.cell = cell
        lock = cell.lock()
        if lock is None:
            raise UsageError(f'{cell.folder} is being trained by another process; wait for it, or stop it.')
        resumed = cell.has_checkpoint()
        self.before = float(cell.record().get('seconds', 0.0)) if resumed else 0.0
        self.notes = dict(command=cell.command(program, environment), jobs=jobs)
        self.log = cell.folder / LOG
        self.log_start = self.log.stat().st_size if self.log.exists() else 0
        self.knn = cell.folder / 'knn.jsonl'
        self.seen = self._stamp()
        self.started = time.monotonic()
        try:
            self._write(RUNNING)
            with open(self.log, 'ab') as log:
                self.process = subprocess.Popen(
                    [sys.executable, str(program), *cell.arguments(), *(['--resume'] if resumed else [])],
                    env={**os.environ, **environment},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    # Its own group: Ctrl-C reaches us alone, and we end it together with its data workers.
                    start_new_session=True,
                    pass_fds=(lock,),
                )
        finally:
            os.close(lock)  # the process holds it now

    @property
    def seconds(self) -> float:
        """Spent on the cell so far, by earlier processes too."""
        return self.before + time.monotonic() - self.started

    def news(self) -> str | None:
        """The newest k-NN accuracies, once; they are written down to have the time of a training that is killed."""
        stamp = self._stamp()
        if stamp == self.seen:
            return None
        self.seen = stamp
        records, _ = self._records()
        if not records:
            return None
        self._write(RUNNING)
        epoch, length = records[-1]['epoch'], f' of {self.cell.epochs}' if self.cell.epochs else ''
        return f'epoch {epoch}{length}, k-NN {headline(records[-1])}'

    def end(self) -> str | None:
        """Writes down how it ended, if it did.

        Returns:
            The status, or None while it runs.
        """
        code = self.process.poll()
        if code is None:
            return None
        error = self._reason(code) if code else self._records()[1]
        status = FINISHED if error is None else FAILED
        self._write(status, code, error)
        return status

    def ask_to_stop(self) -> None:
        """Ends it without waiting for that. Checkpoints are written in one step, so it can be gone on with."""
        self._signal(signal.SIGTERM)

    def stop(self) -> None:
        """Ends it by force if it still runs, and writes down that it is to be gone on with."""
        if self.process.poll() == 0:  # it was faster
            self.end()
            return
        self._signal(signal.SIGKILL)  # also what is left of its data workers
        self.process.wait()
        self._write(STOPPED)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left
            os.killpg(self.process.pid, number)

    def _write(self, status: str, exit_code: int | None = None, error: str | None = None) -> None:
        self.cell.write(status=status, seconds=round(self.seconds, 1), exit_code=exit_code, error=error, **self.notes)

    def _reason(self, code: int) -> str:
        """The last line of this process's log that speaks of an error, or else its last line."""
        if code < 0:
            by = signal.Signals(-code).name
            return f'killed by {by}' + (' (out of memory?)' if -code == signal.SIGKILL else '')
        with open(self.log, 'rb') as log:
            log.seek(self.log_start)
            lines = [line.strip() for line in log.read().decode('utf-8', 'replace').splitlines() if line.strip()]
        errors = [line for line in lines if _ERROR.match(line)]
        return (errors or lines or [f'exit code {code}, and nothing in {self.log}'])[-1].removeprefix('error: ')

    def _records(self) -> tuple[list[dict], str | None]:
        """What was measured, and what is wrong with it."""
        try:
            records = EpochLines(self.knn).read()
        except ValueError as error:
            return [], str(error)
        return records, None if records else 'it ended without having measured k-NN accuracy'

    def _stamp(self) -> int:
        return self.knn.stat().st_mtime_ns if self.knn.exists() else 0


def headline(record: dict) -> str:
    """The accuracies of a record of ``knn.jsonl`` in words."""
    top1 = f'k{record["k"]}_top1'
    return ', '.join(f'{branch} {values[top1]:.1f}' for branch, values in record['branches'].items())
