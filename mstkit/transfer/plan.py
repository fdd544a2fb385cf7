"""Which trainings a transfer consists of: tasks, starts and seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mstkit.engine.launch import load_config
from mstkit.errors import UsageError, nearest
from mstkit.files import write_atomically
from mstkit.interop.checkpoint import branch_state, read_checkpoint

PRETRAINED, SCRATCH = 'pre-trained', 'random init'
FINISHED, FAILED, STARTED = 'finished', 'failed', 'started'
RECORD = 'run.json'


class Metric(NamedTuple):
    """A number of a task: what it is called, its name in mmengine's logs, and the factor that makes it percent."""

    name: str
    key: str
    factor: float = 1.0


class Task(NamedTuple):
    """A downstream task: its config in configs/downstream, and its metrics, the main one first."""

    config: str
    metrics: tuple[Metric, ...]


TASKS = {
    'detection': Task(
        'demo/mask-rcnn_vit-nano_scenes.py',
        (Metric('box AP', 'coco/bbox_mAP', 100.0), Metric('mask AP', 'coco/segm_mAP', 100.0)),
    ),
    'segmentation': Task(
        'demo/setr_vit-nano_scenes.py', (Metric('mIoU', 'mIoU'), Metric('mAcc', 'mAcc'), Metric('aAcc', 'aAcc'))
    ),
    'classification': Task('demo/classifier_vit-nano_scenes.py', (Metric('top-1', 'accuracy/top1'),)),
}


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        task: a key of ``TASKS``.
        start: ``PRETRAINED`` or ``SCRATCH``.
        seed: of the run.
        config: the config file.
        settings: the other arguments of :func:`mstkit.engine.launch.load_config`.
        folder: its work dir.
    """

    task: str
    start: str
    seed: int
    config: Path
    settings: Mapping[str, Any]
    folder: Path

    @property
    def name(self) -> str:
        """What it is called in lines and messages."""
        return f'{self.task}, {self.start}, seed {self.seed}'

    def arguments(self) -> list[str]:
        """Those of ``tools/train.py``."""
        words = [str(self.config), '--work-dir', str(self.folder), '--seed', str(self.seed)]
        for key, value in self.settings.items():
            words += [f'--{key.replace("_", "-")}', str(value)]
        return words

    def load(self) -> Any:
        """The run's config, complete.

        Raises:
            UsageError: it does not fit the data or the options.
        """
        config, _ = load_config(self.config, work_dir=str(self.folder), seed=self.seed, **self.settings)
        return config

    def record(self) -> dict[str, Any]:
        """What is known of it, from its folder; empty where it has not started."""
        file = self.folder / RECORD
        return json.loads(file.read_text(encoding='utf-8')) if file.exists() else {}

    def write(self, **record: Any) -> None:
        """Writes down how far it is."""
        text = json.dumps({'arguments': self.arguments(), **record}, indent=2)
        write_atomically(self.folder / RECORD, text.encode())

    @property
    def checkpoint(self) -> Path | None:
        """The newest checkpoint in its folder."""
        marker = self.folder / 'last_checkpoint'
        if not marker.exists():
            return None
        path = Path(marker.read_text(encoding='utf-8').strip())
        return path if path.exists() else self.folder / path.name


class Plan(NamedTuple):
    """What :func:`make_plan` found: the runs in order, where the report goes, and the checkpoint in words."""

    runs: tuple[Run, ...]
    folder: Path
    source: str


def make_plan(
    pretrained: str,
    tasks: Sequence[str],
    folder: Path,
    configs_folder: Path,
    branch: str = 'student',
    from_scratch_too: bool = False,
    seeds: Sequence[int] = (0,),
    configs: Mapping[str, str] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    lengths: Mapping[str, int] | None = None,
) -> Plan:
    """Lists the trainings and checks all that can be checked before the first one starts.

    Args:
        pretrained: the checkpoint.
        tasks: keys of ``TASKS``.
        folder: for everything.
        configs_folder: configs/downstream.
        branch: of the checkpoint.
        from_scratch_too: also train every task from random weights.
        seeds: every training is done with each.
        configs: another config by task.
        settings: further arguments of :func:`mstkit.engine.launch.load_config` by task.
        lengths: epochs, or iterations where the config counts those, by task.

    Raises:
        UsageError: an unknown task, a checkpoint that cannot be used, a config or data that do not fit.
    """
    for task in [*tasks, *(configs or {}), *(settings or {}), *(lengths or {})]:
        if task not in TASKS:
            raise UsageError(f'there is no task {task!r}, only {", ".join(TASKS)}.{nearest(task, TASKS)}')
    checkpoint = read_checkpoint(pretrained)
    branch_state(checkpoint, branch)
    epoch = (checkpoint.get('meta') or {}).get('epoch')
    runs: list[Run] = []
    for task in dict.fromkeys(tasks):
        config = Path((configs or {}).get(task) or configs_folder / TASKS[task].config)
        common = dict((settings or {}).get(task, {}))
        if lengths and task in lengths:
            unit = 'epochs' if 'max_epochs' in (load_config(config, **common)[0].train_cfg) else 'iterations'
            common[unit] = lengths[task]
        for start in (PRETRAINED, SCRATCH) if from_scratch_too else (PRETRAINED,):
            own = {**common, 'pretrained': pretrained, 'branch': branch} if start == PRETRAINED else common
            place = folder / task / start.replace(' ', '-')
            runs += [Run(task, start, seed, config, own, place / f'seed{seed}') for seed in seeds]
    for run in runs:
        known = run.record().get('arguments')
        if known is not None and known != run.arguments():
            raise UsageError(
                f'{run.folder} holds a run with other settings ({" ".join(known)}): choose another --work-dir.'
            )
    for run in {(run.task, run.start): run for run in runs}.values():
        run.load()
    at = f', epoch {epoch}' if epoch is not None else ''
    return Plan(tuple(runs), folder, f'{branch} of {pretrained}{at}')
