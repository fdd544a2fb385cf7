"""What the runs of a transfer have in common: a task, and the weights from which it starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mstkit.experiments.job import Job

PRETRAINED, SCRATCH = 'pre-trained', 'random init'


@dataclass(frozen=True, kw_only=True)
class TransferRun(Job):
    """One run of a task, from one start with one seed.

    Attributes:
        task: a key of ``TASKS``.
        start: ``PRETRAINED`` or ``SCRATCH``.
    """

    task: str
    start: str

    KIND = 'run'

    @property
    def pace(self) -> str:
        """See :attr:`Job.pace`."""
        return f'{self.KIND} {self.task}'


def run_folder(folder: Path, task: str, start: str, seed: int) -> Path:
    """The sub-folder of a run in that of the transfer."""
    return folder / task / start.replace(' ', '-') / f'seed{seed}'
