"""An ablation: plans the trainings of a config with variations and seeds, and checks them before training."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mstkit.engine.config.config_options import apply_options, find
from mstkit.engine.launch.launch import load_config, read_config
from mstkit.errors import UsageError
from mstkit.evaluation.protocols.weighted_knn import DEFAULT_KS
from mstkit.experiments.config_keys import LENGTH
from mstkit.experiments.job import FINISHED, Curves, Job, fingerprint_of
from mstkit.experiments.measurements import knn_curves
from mstkit.experiments.variations import Choice, expand, parse_axes, read_table
from mstkit.utils.config_parts import hook_configs
from mstkit.utils.files import write_atomically


@dataclass(frozen=True, kw_only=True)
class Cell(Job):
    """One training of an ablation: one choice with one seed.

    Its complete config is beside its folder, not in it, because the runner writes a copy into the folder.

    Attributes:
        hides_nothing: the model has no masker.
    """

    hides_nothing: bool = False

    KIND = 'cell'
    RECORD = 'cell.json'
    MEASURED_IN = 'knn.jsonl'
    MEASURED = 'k-NN accuracy'
    BEFORE_NUMBERS = ', k-NN '

    def curves(self, k: int | None = None) -> Curves:
        """k-NN accuracy by branch; see :func:`mstkit.experiments.measurements.knn_curves`."""
        return knn_curves(self.folder / self.MEASURED_IN, k)


@dataclass(frozen=True)
class Plan:
    """An ablation, ready to be run.

    Attributes:
        base: the config file that is varied.
        folder: for all files of the ablation.
        cells: ordered by seed, so that the table of the first seed is complete early.
        configs: the complete config of every choice, by its name.
        notes: lines for the user about changes in the base config.
    """

    base: Path
    folder: Path
    cells: list[Cell]
    configs: dict[str, Config]
    notes: list[str]

    def write_configs(self) -> None:
        """Writes the complete config of every unfinished cell, which can also be run by ``tools/train.py``."""
        texts: dict[str, str] = {}  # cached, because formatting a config is slow
        for cell in self.cells:
            if cell.record().get('status') == FINISHED:
                continue
            if cell.group not in texts:
                words = ', '.join(f'{key}={word}' for key, word in cell.about['choice'].items())
                heading = f'# {self.base} with {words}; written by tools/ablate.py.'
                texts[cell.group] = f'{heading}\n{self.configs[cell.group].pretty_text}'
            write_atomically(cell.config, texts[cell.group].encode())


def make_plan(
    base: str | Path,
    vary: Sequence[str],
    seeds: Sequence[int],
    table: str | Path,
    k: int,
    work_dir: str | Path | None = None,
    cfg_options: Mapping[str, Any] | None = None,
    data_root: str | None = None,
    epochs: int | None = None,
    auto_scale_lr: bool = False,
    amp: bool = False,
) -> Plan:
    """Expands the grid; nothing is written.

    Args:
        base: the config file.
        vary: one ``KEY=VALUE,VALUE`` per varied key.
        seeds: every choice is trained with each.
        table: the file of the named choices.
        k: number of neighbors of the accuracies in the table; the config has to measure it.
        work_dir: for all files; ``./work_dirs/ablate_CONFIG-NAME`` by default.
        cfg_options: overrides for all cells, applied to the config before it is varied.
        data_root: as in ``tools/train.py``, like the following ones.
        epochs: number of epochs of all cells.
        auto_scale_lr: scale the learning rate with the batch.
        amp: mixed precision.

    Raises:
        UsageError: an argument cannot work, or the folder holds other cells.
    """
    options = dict(cfg_options or {})
    config = read_config(base)
    notes = apply_options(config, options)
    knn = _knn_hook(config, base, k)
    # A cell without k-NN accuracy would be useless: required=True makes it fail before training.
    required = {f'{knn}.required': True}
    _, more = load_config(base, {**options, **required}, data_root, epochs=epochs, auto_scale_lr=auto_scale_lr, amp=amp)
    apply_options(config, required)
    axes = parse_axes(vary, config, read_table(table))
    for axis in axes:
        lost = [path for path in options if any(f'{path}.'.startswith(f'{key}.') for key in axis.keys)]
        if lost:
            raise UsageError(f'--cfg-options {lost[0]}: --vary {axis.key} replaces it; leave one of them out.')
        if axis.key == LENGTH and epochs is not None:
            raise UsageError(f'--epochs {epochs}: --vary {LENGTH} gives the length; leave one of them out.')
    folder = Path(work_dir or Path('work_dirs') / f'ablate_{Path(base).stem}')
    passed = ['--data-root', data_root] if data_root else []
    passed += ['--epochs', str(epochs)] if epochs else []
    passed += ['--auto-scale-lr'] if auto_scale_lr else []
    passed += ['--amp'] if amp else []
    choices = expand(axes)
    configs = {choice.name: choice.applied_to(config) for choice in choices}
    cells = [_cell(folder, choice, seed, configs[choice.name], passed, epochs) for seed in seeds for choice in choices]
    for cell in cells:
        cell.check_ours()
    return Plan(Path(base), folder, cells, configs, [*notes, *(note for note in more if note not in notes)])


def _knn_hook(config: Config, base: str | Path, k: int) -> str:
    """The dotted path of the config's KNNHook, which measures the accuracy that an ablation compares."""
    for path, hook in hook_configs(config):
        if str(hook.get('type')).split('.')[-1] == 'KNNHook':
            ks = list(hook.get('ks', DEFAULT_KS))
            if k not in ks:
                raise UsageError(
                    f'--k {k}: {base} measures k-NN with {", ".join(map(str, ks))}. Take one of these, or give '
                    f'--cfg-options {shlex.quote(f"{path}.ks=[{k},...]")}.'
                )
            return path
    raise UsageError(f'{base} has no KNNHook: there would be no accuracies to compare.')


def _cell(folder: Path, choice: Choice, seed: int, config: Config, options: list[str], epochs: int | None) -> Cell:
    work_dir = folder / choice.folder / f'seed{seed}'
    file = work_dir.with_suffix('.py')
    exists, masker = find(config, 'model.masker')
    return Cell(
        group=choice.name,
        seed=seed,
        folder=work_dir,
        config=file,
        arguments=[str(file), '--seed', str(seed), '--work-dir', str(work_dir), *options],
        about=dict(choice=choice.words, seed=seed),
        length=epochs or find(config, LENGTH)[1],
        fingerprint=fingerprint_of([config.to_dict(keep_imported=True), options]),
        hides_nothing=exists and masker is None,
    )
