"""Tasks of a transfer that are measured as they are, without training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mstkit.errors import UsageError
from mstkit.experiments.job import Curves, fingerprint_of
from mstkit.experiments.tasks import TASKS
from mstkit.experiments.transfer_run import PRETRAINED, TransferRun, run_folder
from mstkit.experiments.transfer_source import Source
from mstkit.utils.shipped_files import from_here, shipped

LENGTH = 1  # of what has no epochs: the place of its single measurement on the axis


@dataclass(frozen=True, kw_only=True)
class ZeroShot(TransferRun):
    """One measurement of one network by the program of its task; done whole or not at all."""

    RECORD = 'measured.json'
    MEASURED_IN = '*.json'

    @property
    def pictures(self) -> list[Path]:
        """What the program has drawn."""
        return sorted(self.folder.glob('*.png'))

    def curves(self) -> Curves:
        """A single number of each metric of its task.

        Raises:
            UsageError: the file was damaged.
        """
        file = self.folder / f'{self.task}.json'
        try:
            content = json.loads(file.read_text(encoding='utf-8'))
            (network,) = content['frames_per_second']  # the other results are those of no network
            measured = content['results'][network]
            return {one.name: {LENGTH: measured[one.key] * one.factor} for one in TASKS[self.task].metrics}
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f'{file} is damaged ({type(error).__name__}: {error}): remove {self.folder}.') from error

    def headline(self) -> str | None:
        """The numbers; None before there are any."""
        try:
            curves = self.curves()
        except UsageError:
            return None
        return ', '.join(f'{name} {one[LENGTH]:.1f}' for name, one in curves.items()) or None

    def resume_arguments(self) -> list[str]:
        """None: it begins anew."""
        return []


def zero_shot(
    task: str, data_root: str | None, source: Source, folder: Path, starts: Sequence[str], seeds: Sequence[int]
) -> list[ZeroShot]:
    """The runs of one task; nothing is written.

    Args:
        task: a key of ``TASKS``, with a program.
        data_root: the folder of its data.
        source: the backbone.
        folder: of the transfer.
        starts: ``PRETRAINED``, and ``SCRATCH`` to compare: the same network with random weights.
        seeds: of random weights; what is pre-trained has nothing random, and is measured once.

    Raises:
        UsageError: the folder of the data is missing.
    """
    program = TASKS[task].program
    if program is None or data_root is None:
        raise UsageError(f'{task} is measured on a folder: give --data-root {task}=DIR.')
    runs = []
    for start in starts:
        for seed in seeds[:1] if start == PRETRAINED else seeds:
            work_dir = run_folder(folder, task, start, seed)
            pretrained = [source.path, '--branch', source.branch]
            words = pretrained if start == PRETRAINED else [f'random:{source.path}@{seed}']
            words += ['--data', data_root, '--out', str(work_dir)]
            about: dict[str, Any] = dict(task=task, start=start, seed=seed, arguments=words)
            runs.append(
                ZeroShot(
                    task=task,
                    start=start,
                    group=f'{task}, {start}',
                    seed=seed,
                    folder=work_dir,
                    config=Path(program),
                    arguments=words,
                    about=about,
                    length=None,
                    fingerprint=fingerprint_of([source.digest, source.branch, start, seed, data_root]),
                    program=from_here(shipped(program)),
                )
            )
    return runs
