"""Measures the network of each cell after its training, image by image, beside random weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mstkit.datasets.splits import find_split
from mstkit.errors import UsageError, nearest
from mstkit.evaluation.image_hits import ImageHits, JudgesImages, read_hits
from mstkit.evaluation.suite import build_suite, known_evaluations, settings_by_evaluation
from mstkit.experiments.ablation import Cell, Plan
from mstkit.experiments.job import FINISHED, Curves, Job, fingerprint_of
from mstkit.utils.config_parts import hook_configs
from mstkit.utils.files import write_atomically

RANDOM = 'random init'
RANDOM_FOLDER = 'random_init'
HELD_OUT = 0.2  # of the linear probe, so that no validation image chooses its learning rate
BATCH = 128


@dataclass(frozen=True, kw_only=True)
class CellEvaluation(Job):
    """One measurement of one network by ``tools/evaluation/evaluate.py``.

    It is done whole or not at all; one that was interrupted begins anew, but for features, which are cached.

    Attributes:
        method: the name of the config, where several are varied; else empty.
        measure: the name of the evaluation.
        settings: digest of what determines the measurement but the network and the place of the images.
    """

    method: str
    measure: str
    settings: str

    KIND = 'measurement'
    RECORD = 'measured.json'
    MEASURED_IN = '*.npz'

    @property
    def name(self) -> str:
        """See :attr:`Job.name`; also with the method and the evaluation."""
        return ', '.join(filter(None, [self.method, super().name, self.measure]))

    @property
    def pace(self) -> str:
        """See :attr:`Job.pace`."""
        return f'{self.KIND} {self.method} {self.measure}'

    @property
    def hits_file(self) -> Path:
        """Which validation images are right."""
        return self.folder / f'{self.measure}.npz'

    def hits(self) -> ImageHits | None:
        """Which validation images are right; None if it is not finished.

        Raises:
            UsageError: the file is damaged.
        """
        return read_hits(self.hits_file) if self.record().get('status') == FINISHED else None

    def curves(self) -> Curves:
        """None: it is a single number."""
        return {}

    def complaint(self) -> str | None:
        """The error in its file; None without one."""
        try:
            read_hits(self.hits_file)
        except UsageError as error:
            return str(error)
        return None


def check_measures(names: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Refuses what cannot be measured image by image, and settings of what is not measured.

    Raises:
        UsageError: with the nearest name, or with what a setting may be.
    """
    for name in names:
        if name not in known_evaluations():
            raise UsageError(f'--measure {name}: there is no evaluation {name!r}.{nearest(name, known_evaluations())}')
    for name, evaluator in build_suite(names, settings).items():
        if not isinstance(evaluator, JudgesImages):
            raise UsageError(f'--measure {name}: it does not say which images are right; take knn, linear or finetune.')


def evaluations_of(
    plan: Plan,
    measures: Sequence[str],
    settings: Mapping[str, Any],
    k: int,
    program: Path,
    branch: str | None = None,
) -> list[CellEvaluation]:
    """The measurements of every cell, and of random weights with every seed; nothing is written.

    Args:
        plan: the cells.
        measures: names of evaluations, accepted by :func:`check_measures`.
        settings: values by ``evaluation.setting``, which precede the defaults of the family.
        k: number of neighbors of k-NN, unless ``settings`` has another.
        program: the path of ``tools/evaluation/evaluate.py``.
        branch: of the checkpoints; by default that of the family, or the student without a family.

    Raises:
        UsageError: the images of the config are no folders, or a folder holds other measurements.
    """
    train, val = (_folder(plan, name) for name in ('train', 'val'))
    branch = branch or (plan.family.branch if plan.family else 'student')
    probe = plan.family.probe if plan.family else 'sweep'
    given = settings_by_evaluation(settings)
    usual: dict[str, dict[str, Any]] = dict(knn=dict(ks=k), linear=dict(preset=probe, held_out=HELD_OUT))
    jobs = []
    for name in measures:
        chosen = {**usual.get(name, {}), **given.get(name, {})}
        options = ['--suite', name, '--batch-size', str(BATCH), '--num-workers', '1']
        options += ['--set', *(f'{name}.{key}={value}' for key, value in chosen.items())] if chosen else []
        common = ['--train', train, '--val', val, *options]
        digest = fingerprint_of([options, branch])
        label = name if not given.get(name) else f'{name}-{_digest(given[name])}'
        for seed in dict.fromkeys(cell.seed for cell in plan.cells):
            folder = plan.folder / RANDOM_FOLDER / f'seed{seed}'
            source = [f'random:{random_config(plan)}@{seed}']
            marks: list[Any] = [plan.varied.to_dict(keep_imported=True)['model'], seed]
            jobs.append(_job(plan, None, seed, folder, label, name, source, common, marks, program, digest))
        for cell in plan.cells:
            source = [str(cell.folder / f'epoch_{cell.length}.pth'), '--branch', branch]
            marks = [cell.fingerprint, branch]
            jobs.append(_job(plan, cell, cell.seed, cell.folder, label, name, source, common, marks, program, digest))
    for job in jobs:
        job.check_ours()
    return jobs


def random_config(plan: Plan) -> Path:
    """The file of the config whose network is measured with random weights."""
    return plan.folder / f'{RANDOM_FOLDER}.py'


def write_random_config(plan: Plan) -> None:
    """Writes it."""
    heading = f'# {plan.base} with all overrides, for its network with random weights; written by tools/ablate.py.'
    write_atomically(random_config(plan), f'{heading}\n{plan.varied.pretty_text}'.encode())


def _job(
    plan: Plan,
    cell: Cell | None,
    seed: int,
    beside: Path,
    label: str,
    measure: str,
    source: list[str],
    common: list[str],
    marks: list[Any],
    program: Path,
    settings: str,
) -> CellEvaluation:
    folder, measured = beside / 'measured' / label, beside / 'measured'
    words = [*source, *common, '--seed', str(seed), '--work-dir', str(folder), '--hits', str(folder)]
    words += ['--cache', str(measured / 'feature_cache')]
    group = RANDOM if cell is None else cell.group
    return CellEvaluation(
        group=group,
        seed=seed,
        folder=folder,
        config=plan.base,
        arguments=words,
        about=dict(network=group, seed=seed, measure=measure, arguments=words),
        length=None,
        fingerprint=fingerprint_of([marks, common]),
        after=cell,
        program=program,
        method=plan.name,
        measure=measure,
        settings=settings,
    )


def _folder(plan: Plan, name: str) -> str:
    """The folder of the images with which the config's KNNHook measures."""
    hook = next(hook for _, hook in hook_configs(plan.loaded) if str(hook.get('type')).split('.')[-1] == 'KNNHook')
    dataset = hook[f'{name}_dataset']
    kind = str(dataset.get('type')).split('.')[-1]
    if kind != 'ImageFolder':
        raise UsageError(
            f'--measure: the images of {plan.base} are of {kind}, and measurements want a folder with a sub-folder per '
            'class: give --data-root DIR to a config for folders, or leave --measure out.'
        )
    return str(Path(find_split(str(dataset.get('data_root') or ''), dataset.get('split', 'train'))).resolve())


def _digest(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:6]
