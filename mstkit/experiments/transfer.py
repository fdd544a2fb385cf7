"""From options to the runs of a transfer, with every check that needs no training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config

from mstkit.engine.launch import load_config, read_config
from mstkit.errors import UsageError
from mstkit.experiments.fine_tuning import PRETRAINED, SCRATCH, Run
from mstkit.experiments.source import Source
from mstkit.experiments.tasks import TASKS, check_task


@dataclass(frozen=True)
class TaskOptions:
    """How a task is trained.

    Attributes:
        config: the config file.
        data_root: the folder of its data; the config's own by default.
        num_classes: where the data do not tell, as label maps do not.
        length: epochs, or iterations where the config counts those; the config's own by default.
    """

    config: Path
    data_root: str | None = None
    num_classes: int | None = None
    length: int | None = None

    def settings(self, unit: str) -> dict[str, Any]:
        """As arguments of :func:`mstkit.engine.launch.load_config`, for a config that counts in ``unit``."""
        given = {'data_root': self.data_root, 'num_classes': self.num_classes, f'{unit}s': self.length}
        return {key: value for key, value in given.items() if value is not None}


class Plan(NamedTuple):
    """A transfer, ready to be run: its runs in order, the options by task, the backbone, and where the report goes."""

    runs: tuple[Run, ...]
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
        folder: for everything.
        seeds: every training is done with each.
        from_scratch_too: also train every task from random weights.

    Raises:
        UsageError: an unknown task, a config, data or a backbone that do not fit, or a folder that holds other runs.
    """
    if not tasks:
        raise UsageError(f'there is no task to train; there are {", ".join(TASKS)}.')
    starts = (PRETRAINED, SCRATCH) if from_scratch_too else (PRETRAINED,)
    runs: list[Run] = []
    for task, options in tasks.items():
        runs += _runs_of(check_task(task), options, source, folder, starts, seeds)
    for run in runs:
        run.check_ours()
    return Plan(tuple(runs), tasks, source, folder)


def _runs_of(
    task: str, options: TaskOptions, source: Source, folder: Path, starts: Sequence[str], seeds: Sequence[int]
) -> list[Run]:
    """The runs of one task, whose config is read with all its options to find mistakes in them."""
    raw = read_config(options.config)
    unit = 'iteration' if 'max_iters' in (raw.get('train_cfg') or {}) else 'epoch'
    settings = {SCRATCH: options.settings(unit)}
    settings[PRETRAINED] = {**settings[SCRATCH], 'pretrained': source.path, 'branch': source.branch}
    config, _ = load_config(options.config, **settings[PRETRAINED])
    source.check_fits(config)
    weights = {PRETRAINED: [source.digest, source.branch], SCRATCH: None}
    return [
        Run(
            seed=seed,
            folder=folder / task / start.replace(' ', '-') / f'seed{seed}',
            length=_length(config, unit),
            fingerprint=_fingerprint([raw._cfg_dict.to_dict(), settings[SCRATCH], weights[start], seed]),
            task=task,
            start=start,
            config=options.config,
            settings=settings[start],
            unit=unit,
        )
        for start in starts
        for seed in seeds
    ]


def _fingerprint(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=repr).encode()).hexdigest()[:16]


def _length(config: Config, unit: str) -> int | None:
    """How long a config trains; None where its validations are logged in another unit, so that nothing can tell."""
    logger = (config.get('default_hooks') or {}).get('logger') or {}
    if logger.get('log_metric_by_epoch', True) is not (unit == 'epoch'):
        return None
    return config.train_cfg.get('max_epochs' if unit == 'epoch' else 'max_iters')
