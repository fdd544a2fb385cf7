"""A run: one training of a downstream task, from one start with one seed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mstkit.engine.launch import load_config
from mstkit.experiments.job import Job
from mstkit.experiments.tasks import TASKS
from mstkit.experiments.validation_curves import newest, read_curves

PRETRAINED, SCRATCH = 'pre-trained', 'random init'


@dataclass(frozen=True)
class Run(Job):
    """One training of a transfer.

    Attributes:
        task: a key of ``TASKS``.
        start: ``PRETRAINED`` or ``SCRATCH``.
        config: the config file.
        settings: further arguments of :func:`mstkit.engine.launch.load_config`.
        unit: ``'epoch'`` or ``'iteration'``, what its length counts.
    """

    task: str
    start: str
    config: Path
    settings: Mapping[str, Any]
    unit: str

    RECORD = 'run.json'
    KIND = 'run'

    @property
    def name(self) -> str:
        return f'{self.task}, {self.start}, seed {self.seed}'

    def arguments(self) -> list[str]:
        words = [str(self.config), '--work-dir', str(self.folder), '--seed', str(self.seed)]
        for key, value in self.settings.items():
            words += [f'--{key.replace("_", "-")}', str(value)]
        return words

    def description(self) -> dict[str, Any]:
        return dict(task=self.task, start=self.start, seed=self.seed, arguments=self.arguments())

    def other_settings(self, record: dict[str, Any]) -> str:
        known = record.get('arguments')
        if known == self.arguments():
            return ' (the checkpoint or the config is no longer what it was)'
        return f' ({shlex.join(map(str, known or []))})'

    def has_left_something(self) -> bool:
        """Also measurements without a checkpoint would be mixed up with those to come."""
        return super().has_left_something() or newest(self.curves()) is not None

    def load(self) -> Config:
        """The run's config, complete.

        Raises:
            UsageError: it does not fit the data or the options.
        """
        config, _ = load_config(self.config, work_dir=str(self.folder), seed=self.seed, **self.settings)
        return config

    def results(self) -> list[Path]:
        """mmengine's logs, one of each process that worked on it, in their order."""
        return sorted(self.folder.glob('*/vis_data/scalars.json'))

    def curves(self) -> dict[str, dict[int, float]]:
        """Its metrics in percent, by name and step; see :func:`mstkit.experiments.validation_curves.read_curves`."""
        return read_curves(self.results(), TASKS[self.task].metrics)

    def headline(self) -> str | None:
        curves = self.curves()
        step = newest(curves)
        if step is None:
            return None
        values = ', '.join(f'{name} {curve[step]:.1f}' for name, curve in curves.items() if step in curve)
        return f'{self.unit} {step}{f" of {self.length}" if self.length else ""}: {values}'

    def complaint(self) -> str | None:
        step = newest(self.curves())
        if step is None:
            return 'it ended without having measured anything'
        if not self._measured_at_end():
            return f'it was last measured at {self.unit} {step} of {self.length}'
        return None

    def resume_arguments(self) -> list[str]:
        """From its newest checkpoint.

        A run that was stopped between its last checkpoint and the end of the validation after it would have nothing
        left to do, and never be measured: it does its last part again, from the checkpoint before.
        """
        checkpoints = self._checkpoints()
        if not checkpoints or self.length is None or max(checkpoints) < self.length or self._measured_at_end():
            return super().resume_arguments()
        earlier = [step for step in checkpoints if step < self.length]
        return ['--resume', str(checkpoints[max(earlier)])] if earlier else []

    def _measured_at_end(self) -> bool:
        step = newest(self.curves())
        return step is not None and (self.length is None or step >= self.length)

    def _checkpoints(self) -> dict[int, Path]:
        """By the epochs, or the iterations, after which they were written."""
        kind = 'iter' if self.unit == 'iteration' else self.unit
        found = ((re.fullmatch(rf'{kind}_(\d+)\.pth', path.name), path) for path in self.folder.glob(f'{kind}_*.pth'))
        return {int(match[1]): path for match, path in found if match}
