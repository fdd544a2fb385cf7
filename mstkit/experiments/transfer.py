"""A transfer: plans the fine-tuning of one pre-trained backbone in several tasks, and checks it before training."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config

from mstkit.engine.launch.launch import load_config, read_config
from mstkit.errors import UsageError
from mstkit.experiments.job import Curves, fingerprint_of, newest
from mstkit.experiments.measurements import validation_curves
from mstkit.experiments.tasks import TASKS, check_task
from mstkit.experiments.transfer_run import PRETRAINED, SCRATCH, TransferRun, run_folder
from mstkit.experiments.transfer_source import Source
from mstkit.experiments.zero_shot import zero_shot


@dataclass(frozen=True, kw_only=True)
class FineTuning(TransferRun):
    """One training of a downstream task, from one start with one seed.

    Attributes:
        settings: further arguments of :func:`mstkit.engine.launch.launch.load_config`.
    """

    settings: Mapping[str, Any]

    RECORD = 'run.json'
    MEASURED_IN = '*/vis_data/scalars.json'  # mmengine's log, one for each start and resume

    def has_left_something(self) -> bool:
        """Also True if there are measurements without a checkpoint, which would mix with those of a new run."""
        return super().has_left_something() or newest(self.curves()) is not None

    def load(self) -> Config:
        """Loads the complete config of the run.

        Raises:
            UsageError: it does not fit the data or the options.
        """
        config, _ = load_config(self.config, work_dir=str(self.folder), seed=self.seed, **self.settings)
        return config

    def curves(self) -> Curves:
        """The metrics of its task; see :func:`mstkit.experiments.measurements.validation_curves`."""
        return validation_curves(self.results(), TASKS[self.task].metrics)

    def complaint(self) -> str | None:
        last = newest(self.curves())
        if last is None or self._is_end(last):
            return super().complaint()
        return f'it was last measured at {self.unit} {last} of {self.length}'

    def resume_arguments(self) -> list[str]:
        """Arguments to resume from the newest checkpoint.

        A run that was stopped between its last checkpoint and the end of the last validation resumes from the
        checkpoint before: from the last one it would end at once, without the validation.
        """
        last, checkpoints = newest(self.curves()), self._checkpoints()
        measured_at_end = last is not None and self._is_end(last)
        if not checkpoints or self.length is None or max(checkpoints) < self.length or measured_at_end:
            return super().resume_arguments()
        earlier = [step for step in checkpoints if step < self.length]
        return ['--resume', str(checkpoints[max(earlier)])] if earlier else []

    def _is_end(self, step: int) -> bool:
        return self.length is None or step >= self.length

    def _checkpoints(self) -> dict[int, Path]:
        """Checkpoints by the epoch or iteration after which they were written."""
        kind = 'iter' if self.unit == 'iteration' else self.unit
        found = ((re.fullmatch(rf'{kind}_(\d+)\.pth', path.name), path) for path in self.folder.glob(f'{kind}_*.pth'))
        return {int(match[1]): path for match, path in found if match}


@dataclass(frozen=True)
class TaskOptions:
    """The options of a task.

    Attributes:
        config: the config file; None for a task that is measured without training.
        data_root: the folder of its data; by default that of the config.
        num_classes: needed if it cannot be read from the data, as for label maps.
        length: number of epochs, or of iterations if the config counts these; by default that of the config.
    """

    config: Path | None
    data_root: str | None = None
    num_classes: int | None = None
    length: int | None = None

    def settings(self, unit: str) -> dict[str, Any]:
        """Arguments for :func:`mstkit.engine.launch.launch.load_config`, for a config that counts in ``unit``."""
        given = {'data_root': self.data_root, 'num_classes': self.num_classes, f'{unit}s': self.length}
        return {key: value for key, value in given.items() if value is not None}


class Plan(NamedTuple):
    """A transfer, ready to be run: its runs in order, the options by task, the backbone, and the folder."""

    runs: tuple[TransferRun, ...]
    tasks: Mapping[str, TaskOptions]
    source: Source
    folder: Path


def make_plan(
    source: Source,
    tasks: Mapping[str, TaskOptions],
    folder: Path,
    seeds: Sequence[int] = (0,),
    from_scratch_too: bool = False,
) -> Plan:
    """Lists the trainings; nothing is written.

    Args:
        source: the backbone.
        tasks: options by key of ``TASKS``, in the order of the training.
        folder: for all files.
        seeds: every task is trained with each.
        from_scratch_too: also train every task from random weights.

    Raises:
        UsageError: an unknown task, a config, data or a backbone that do not fit, or a folder that holds other runs.
    """
    if not tasks:
        raise UsageError(f'there is no task to train; there are {", ".join(TASKS)}.')
    starts = (PRETRAINED, SCRATCH) if from_scratch_too else (PRETRAINED,)
    runs: list[TransferRun] = []
    for task, options in tasks.items():
        if TASKS[check_task(task)].program is None:
            runs += _runs_of(task, options, source, folder, starts, seeds)
        else:
            runs += zero_shot(task, options.data_root, source, folder, starts, seeds)
    for run in runs:
        run.check_ours()
    return Plan(tuple(runs), tasks, source, folder)


def _runs_of(
    task: str, options: TaskOptions, source: Source, folder: Path, starts: Sequence[str], seeds: Sequence[int]
) -> list[FineTuning]:
    """The runs of one task; its config is loaded with all options, to find errors in them early."""
    if options.config is None:
        raise UsageError(f'{task} is trained: give its config.')
    raw = read_config(options.config)
    if not (raw.get('default_hooks') or {}).get('pretrained'):
        raise UsageError(
            f'{options.config} has no default_hooks.pretrained, so it is no config of a downstream task: a transfer is '
            'for the configs in configs/downstream and such as they are.'
        )
    unit = 'iteration' if 'max_iters' in (raw.get('train_cfg') or {}) else 'epoch'
    settings = {SCRATCH: options.settings(unit)}
    settings[PRETRAINED] = {**settings[SCRATCH], 'pretrained': source.path, 'branch': source.branch}
    config, _ = load_config(options.config, **settings[PRETRAINED])
    source.check_fits(config)
    weights = {PRETRAINED: [source.digest, source.branch], SCRATCH: None}
    runs = []
    for start, seed in itertools.product(starts, seeds):
        digest = fingerprint_of([raw.to_dict(keep_imported=True), settings[SCRATCH], weights[start], seed])
        more: dict[str, Any] = dict(length=_length(config, unit), unit=unit, fingerprint=digest)
        runs.append(fine_tuning(folder, task, start, seed, options.config, settings[start], **more))
    return runs


def fine_tuning(
    folder: Path, task: str, start: str, seed: int, config: Path, settings: Mapping[str, Any], **more: Any
) -> FineTuning:
    """One run of a transfer, in its sub-folder; ``more`` are further attributes of :class:`FineTuning`."""
    work_dir = run_folder(folder, task, start, seed)
    words = [str(config), '--work-dir', str(work_dir), '--seed', str(seed)]
    for key, value in settings.items():
        words += [f'--{key.replace("_", "-")}', str(value)]
    return FineTuning(
        task=task,
        start=start,
        group=f'{task}, {start}',
        seed=seed,
        folder=work_dir,
        config=config,
        settings=settings,
        arguments=words,
        about=dict(task=task, start=start, seed=seed, arguments=words),
        **more,
    )


def _length(config: Config, unit: str) -> int | None:
    """The length of a config's training; None if validations are logged in another unit, so they cannot be compared."""
    logger = (config.get('default_hooks') or {}).get('logger') or {}
    if logger.get('log_metric_by_epoch', True) is not (unit == 'epoch'):
        return None
    return config.train_cfg.get('max_epochs' if unit == 'epoch' else 'max_iters')
