"""A cell: one choice with one seed, its folder, and what is written down about it there."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mstkit.ablation.choices import Choice
from mstkit.errors import UsageError
from mstkit.files import write_atomically

RECORD = 'cell.json'
LOG = 'train.log'

FINISHED, FAILED, RUNNING, STOPPED = 'finished', 'failed', 'running', 'stopped'
STATES = {
    FINISHED: 'finished',
    FAILED: 'failed, runs again',
    RUNNING: 'interrupted, goes on',  # written by a process that is gone
    STOPPED: 'interrupted, goes on',
}


@dataclass(frozen=True)
class Cell:
    """One training of an ablation.

    Attributes:
        choice: what the config gets.
        seed: the run's.
        folder: its work dir.
        config: the file with its whole config; not in its folder, where the runner writes its own copy.
        options: more for the command line of ``tools/train.py``.
        epochs: how long it trains.
        fingerprint: of all that decides what the training does; it tells a cell from one of another ablation.
        hides_nothing: its model has no masker.
    """

    choice: Choice
    seed: int
    folder: Path
    config: Path
    options: tuple[str, ...]
    epochs: int | None
    fingerprint: str
    hides_nothing: bool = False

    @property
    def name(self) -> str:
        return f'{self.choice.name}, seed {self.seed}'

    def arguments(self) -> list[str]:
        """The command line of ``tools/train.py`` that trains the cell from the start."""
        return [str(self.config), '--seed', str(self.seed), '--work-dir', str(self.folder), *self.options]

    def command(self, program: str | Path, environment: dict[str, str] | None = None) -> str:
        """The same as one line for a shell."""
        before = ''.join(f'{name}={shlex.quote(value)} ' for name, value in (environment or {}).items())
        return before + shlex.join(['python', str(program), *self.arguments()])

    def has_checkpoint(self) -> bool:
        """There is something to resume from."""
        return any(self.folder.glob('epoch_*.pth')) or any(self.folder.glob('iter_*.pth'))

    def record(self) -> dict[str, Any]:
        """What is known of the cell; empty for one that never ran.

        Raises:
            UsageError: the file was damaged by something else, for it is written in one step.
        """
        file = self.folder / RECORD
        try:
            record = json.loads(file.read_text(encoding='utf-8'))
            if record['status'] not in STATES:
                raise ValueError(f'status {record["status"]!r}')
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f'{file} is no record of a cell ({error}): remove the folder, or choose another --work-dir.'
            ) from error
        return record

    def write(self, **fields: Any) -> None:
        """Writes the record anew, in one step."""
        described = dict(
            choice=self.choice.words,
            seed=self.seed,
            fingerprint=self.fingerprint,
        )
        write_atomically(self.folder / RECORD, (json.dumps({**described, **fields}, indent=2) + '\n').encode())

    def state(self) -> str:
        """What the cell waits for, in words."""
        if self.is_locked():
            return 'being trained'
        record = self.record()
        return STATES[record['status']] if record else 'not started'

    def check_ours(self) -> None:
        """Refuses a folder in which something else was trained, rather than resuming or skipping it.

        Raises:
            UsageError: the folder belongs to another ablation or to no ablation.
        """
        record = self.record()
        if record.get('fingerprint') == self.fingerprint:
            return
        if record.get('status') == FINISHED or self.has_checkpoint():
            whose = 'a cell with other settings (config, options or choices)' if record else 'a run that is no cell'
            raise UsageError(f'{self.folder} holds {whose}: choose another --work-dir, or remove that folder.')

    def lock(self) -> int | None:
        """Claims the cell for a process that trains it.

        The lock belongs to the open file. Handed down to the training process, it holds as long as that one lives,
        even when the one that started it was killed: no second training can then write into the same folder.

        Returns:
            A file descriptor to hand down and to close; None where somebody else has the cell.
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
        if descriptor is None:
            return True
        os.close(descriptor)
        return False
