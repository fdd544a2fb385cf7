"""A job: one training with its folder, and its record there."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shlex
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from mstkit.errors import UsageError
from mstkit.utils.files import write_atomically

LOG = 'train.log'

FINISHED, FAILED, RUNNING, STOPPED = 'finished', 'failed', 'running', 'stopped'
STATES = {
    FINISHED: 'finished',
    FAILED: 'failed, runs again',
    RUNNING: 'interrupted, goes on',  # written by a process that no longer exists
    STOPPED: 'interrupted, goes on',
}

Curves = dict[str, dict[int, float]]  # percent by name of the measurement, then by epochs or iterations done, in order


@dataclass(frozen=True, kw_only=True)
class Job(ABC):
    """One training by ``tools/train.py``, or one measurement by another program.

    Attributes:
        group: name that is shared by jobs that differ only in the seed.
        seed: of the run.
        folder: its work dir.
        config: the config file.
        arguments: the command line of ``tools/train.py`` that trains it from the start.
        about: fields of its record that describe it, such as the choice and the seed.
        length: number of epochs or iterations; None if unknown.
        unit: ``'epoch'`` or ``'iteration'``, the unit of its length.
        fingerprint: digest of everything that determines the training, to recognize another job in the same folder.
        after: a job that has to be finished first; None for none.
        program: what runs it, if not the program of the other jobs.
    """

    group: str
    seed: int
    folder: Path
    config: Path
    arguments: list[str]
    about: dict[str, Any]
    length: int | None
    unit: str = 'epoch'
    fingerprint: str
    after: Job | None = None
    program: Path | None = None

    KIND: ClassVar[str]  # the word for it in messages
    RECORD: ClassVar[str]  # the name of its record in the folder
    MEASURED_IN: ClassVar[str]  # pattern of the files in its folder that hold measurements
    MEASURED: ClassVar[str] = 'anything'  # the word for its measurements in messages
    BEFORE_NUMBERS: ClassVar[str] = ': '  # separator in :meth:`headline`

    @property
    def name(self) -> str:
        """The name of the job, with its seed."""
        return f'{self.group}, seed {self.seed}'

    @property
    def pace(self) -> str:
        """A word that is shared by jobs that take about equally long."""
        return self.KIND

    @abstractmethod
    def curves(self) -> Curves:
        """The measurements so far.

        Raises:
            UsageError: a file in its folder was damaged.
        """

    def results(self) -> list[Path]:
        """The files with its measurements, in the order of its starts and resumes."""
        return sorted(self.folder.glob(self.MEASURED_IN))

    def headline(self) -> str | None:
        """The newest measurement in words; None if there is none that can be read."""
        try:
            curves = self.curves()
        except UsageError:
            return None
        step = newest(curves)
        if step is None:
            return None
        numbers = ', '.join(f'{name} {curve[step]:.1f}' for name, curve in curves.items() if step in curve)
        return f'{self.unit} {step}{f" of {self.length}" if self.length else ""}{self.BEFORE_NUMBERS}{numbers}'

    def complaint(self) -> str | None:
        """The error in the measurements of a training that ended with exit code 0; None if they are complete."""
        try:
            measured = newest(self.curves()) is not None
        except UsageError as error:
            return str(error)
        return None if measured else f'it ended without having measured {self.MEASURED}'

    def resume_arguments(self) -> list[str]:
        """The arguments with which ``tools/train.py`` resumes it; empty if it has to start anew."""
        return ['--resume'] if self.has_checkpoint() else []

    def command(self, program: str | Path, environment: dict[str, str] | None = None) -> str:
        """The shell command that trains it from the start."""
        before = ''.join(f'{name}={shlex.quote(value)} ' for name, value in (environment or {}).items())
        return before + shlex.join(['python', str(self.program or program), *self.arguments])

    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        if any(self.folder.glob('epoch_*.pth')) or any(self.folder.glob('iter_*.pth')):
            return True
        try:  # a checkpoint with another name
            last = Path((self.folder / 'last_checkpoint').read_text(encoding='utf-8').strip())
        except (OSError, UnicodeDecodeError):
            return False
        return bool(last.name) and (self.folder / last.name).exists()

    def has_left_something(self) -> bool:
        """Whether its folder holds results that would be mistaken for those of this training."""
        return self.record().get('status') == FINISHED or self.has_checkpoint()

    def record(self) -> dict[str, Any]:
        """Reads its record; empty for a job that never ran.

        Raises:
            UsageError: the file is damaged (it is written atomically, so not by a killed process).
        """
        file = self.folder / self.RECORD
        try:
            record = json.loads(file.read_text(encoding='utf-8'))
            if record['status'] not in STATES:
                raise ValueError(f'status {record["status"]!r}')
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f'{file} is not a record of a {self.KIND} ({error}): remove the folder, or choose another --work-dir.'
            ) from error
        return record

    def write(self, **fields: Any) -> None:
        """Writes the record, atomically."""
        content = {**self.about, 'fingerprint': self.fingerprint, **fields}
        write_atomically(self.folder / self.RECORD, (json.dumps(content, indent=2) + '\n').encode())

    def state(self) -> str:
        """The state of the job, in words."""
        if self.is_locked():
            return 'being trained'
        record = self.record()
        return STATES[record['status']] if record else 'not started'

    def check_ours(self) -> None:
        """Refuses a folder of another training, instead of resuming or skipping that.

        Raises:
            UsageError: the folder belongs to another training.
        """
        record = self.record()
        if record.get('fingerprint') == self.fingerprint or not self.has_left_something():
            return
        settings = record.get('arguments')
        if not record:
            owner = f'a run without {self.RECORD}'
        elif settings is None:
            owner = f'a {self.KIND} with other settings (config, options or choices)'
        elif settings == self.arguments:
            owner = f'a {self.KIND} with other settings (the checkpoint or the config has changed)'
        else:
            owner = f'a {self.KIND} with other settings ({shlex.join(map(str, settings))})'
        raise UsageError(f'{self.folder} holds {owner}: choose another --work-dir, or remove that folder.')

    def lock(self) -> int | None:
        """Locks the job for a training process.

        The lock belongs to the open file. The training process inherits it and holds it until it ends, even if its
        parent is killed, so that no second training can write into the same folder.

        Returns:
            A file descriptor, to be inherited by the training process and closed here; None if the job is locked.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder / '.lock', os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def is_locked(self) -> bool:
        """Whether a process is training it."""
        if not (self.folder / '.lock').exists():
            return False
        descriptor = self.lock()
        if descriptor is not None:
            os.close(descriptor)
        return descriptor is None


def newest(curves: Curves) -> int | None:
    """The last step with a measurement; None without one."""
    return max((step for curve in curves.values() for step in curve), default=None)


def fingerprint_of(content: Any) -> str:
    """A short digest of plain data."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=repr).encode()).hexdigest()[:16]
