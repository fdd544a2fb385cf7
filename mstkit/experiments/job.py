"""A job: one training, its folder, and what is written down about it there."""

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
    RUNNING: 'interrupted, goes on',  # written by a process that is gone
    STOPPED: 'interrupted, goes on',
}

Curves = dict[str, dict[int, float]]  # percent by what was measured and after how many epochs or iterations, in order


@dataclass(frozen=True, kw_only=True)
class Job(ABC):
    """One training by ``tools/train.py``.

    Attributes:
        group: what it has in common with the jobs that differ from it in the seed alone, in words.
        seed: the run's.
        folder: its work dir.
        config: the config file.
        arguments: the command line of ``tools/train.py`` that trains it from the start.
        about: what its record says about it, apart from how far it is.
        length: epochs or iterations, whichever it counts in; None where nobody knows.
        unit: ``'epoch'`` or ``'iteration'``, what its length counts.
        fingerprint: of all that decides what the training does; it tells a job from another one in the same folder.
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

    KIND: ClassVar[str]  # what messages call it
    RECORD: ClassVar[str]  # the file in its folder
    MEASURED_IN: ClassVar[str]  # a pattern of the files in its folder that change when something was measured
    MEASURED: ClassVar[str] = 'anything'  # what messages call its measurements
    BEFORE_NUMBERS: ClassVar[str] = ': '  # in a headline

    @property
    def name(self) -> str:
        """What tells it from the others, in words."""
        return f'{self.group}, seed {self.seed}'

    @abstractmethod
    def curves(self) -> Curves:
        """What was measured so far.

        Raises:
            UsageError: a file in its folder was damaged.
        """

    def results(self) -> list[Path]:
        """The files with its measurements, in the order of the processes that wrote them."""
        return sorted(self.folder.glob(self.MEASURED_IN))

    def headline(self) -> str | None:
        """The newest measurement in words; None where there is none that can be read."""
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
        """What is wrong with the measurements of a training that ended in order; None where nothing is."""
        try:
            measured = newest(self.curves()) is not None
        except UsageError as error:
            return str(error)
        return None if measured else f'it ended without having measured {self.MEASURED}'

    def resume_arguments(self) -> list[str]:
        """What makes ``tools/train.py`` go on with it; nothing where it has to start."""
        return ['--resume'] if self.has_checkpoint() else []

    def command(self, program: str | Path, environment: dict[str, str] | None = None) -> str:
        """What trains it from the start, as one line for a shell."""
        before = ''.join(f'{name}={shlex.quote(value)} ' for name, value in (environment or {}).items())
        return before + shlex.join(['python', str(program), *self.arguments])

    def has_checkpoint(self) -> bool:
        """There is something to resume from."""
        if any(self.folder.glob('epoch_*.pth')) or any(self.folder.glob('iter_*.pth')):
            return True
        try:  # of another name
            last = Path((self.folder / 'last_checkpoint').read_text(encoding='utf-8').strip())
        except (OSError, UnicodeDecodeError):
            return False
        return bool(last.name) and (self.folder / last.name).exists()

    def has_left_something(self) -> bool:
        """Something in its folder would be taken for this training's."""
        return self.record().get('status') == FINISHED or self.has_checkpoint()

    def record(self) -> dict[str, Any]:
        """What is known of it; empty for one that never ran.

        Raises:
            UsageError: the file was damaged by something else, for it is written in one step.
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
                f'{file} is no record of a {self.KIND} ({error}): remove the folder, or choose another --work-dir.'
            ) from error
        return record

    def write(self, **fields: Any) -> None:
        """Writes the record anew, in one step."""
        content = {**self.about, 'fingerprint': self.fingerprint, **fields}
        write_atomically(self.folder / self.RECORD, (json.dumps(content, indent=2) + '\n').encode())

    def state(self) -> str:
        """What it waits for, in words."""
        if self.is_locked():
            return 'being trained'
        record = self.record()
        return STATES[record['status']] if record else 'not started'

    def check_ours(self) -> None:
        """Refuses a folder in which something else was trained, rather than resuming or skipping it.

        Raises:
            UsageError: the folder belongs to another training.
        """
        record = self.record()
        if record.get('fingerprint') == self.fingerprint or not self.has_left_something():
            return
        settings = record.get('arguments')
        if not record:
            whose = f'a run that is no {self.KIND}'
        elif settings is None:
            whose = f'a {self.KIND} with other settings (config, options or choices)'
        elif settings == self.arguments:
            whose = f'a {self.KIND} with other settings (the checkpoint or the config is no longer what it was)'
        else:
            whose = f'a {self.KIND} with other settings ({shlex.join(map(str, settings))})'
        raise UsageError(f'{self.folder} holds {whose}: choose another --work-dir, or remove that folder.')

    def lock(self) -> int | None:
        """Claims it for a process that trains it.

        The lock belongs to the open file. Handed down to the training process, it holds as long as that one lives,
        even when the one that started it was killed: no second training can then write into the same folder.

        Returns:
            A file descriptor to hand down and to close; None where somebody else has it.
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
        """Somebody trains it right now."""
        if not (self.folder / '.lock').exists():
            return False
        descriptor = self.lock()
        if descriptor is not None:
            os.close(descriptor)
        return descriptor is None


def newest(curves: Curves) -> int | None:
    """The last step at which something was measured."""
    return max((step for curve in curves.values() for step in curve), default=None)


def fingerprint_of(content: Any) -> str:
    """A short digest of plain data; equal content has an equal one."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=repr).encode()).hexdigest()[:16]
