"""An ablation: plans the trainings of a config with variations and seeds, and checks them before training."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mstkit.engine.config.config_options import apply_options, find
from mstkit.engine.launch.launch import load_config, read_config
from mstkit.errors import UsageError
from mstkit.evaluation.protocols.weighted_knn import DEFAULT_KS
from mstkit.experiments.config_keys import LENGTH
from mstkit.experiments.image_budget import epochs_for
from mstkit.experiments.job import FINISHED, Curves, Job, fingerprint_of
from mstkit.experiments.mask_twins import RandomTwin, with_twins
from mstkit.experiments.measurements import knn_curves
from mstkit.experiments.named_masks import Family, family_of, mask_choices, named_choices
from mstkit.experiments.variations import Choice, expand, keys_of, parse_axes, read_table
from mstkit.utils.config_parts import hook_configs
from mstkit.utils.files import write_atomically


@dataclass(frozen=True, kw_only=True)
class Cell(Job):
    """One training of an ablation: one choice with one seed.

    Its complete config is beside its folder, not in it, because the runner writes a copy into the folder.

    Attributes:
        settings: digest of what determines the training but the seed and the place of the images.
        hides_nothing: the model has no masker.
        method: the name of the config, where several are varied; else empty.
    """

    settings: str = ''
    hides_nothing: bool = False
    method: str = ''

    KIND = 'cell'
    RECORD = 'cell.json'
    MEASURED_IN = 'knn.jsonl'
    MEASURED = 'k-NN accuracy'
    BEFORE_NUMBERS = ', k-NN '

    @property
    def name(self) -> str:
        """See :attr:`Job.name`; also with the method."""
        return f'{self.method}, {super().name}' if self.method else super().name

    @property
    def pace(self) -> str:
        """See :attr:`Job.pace`."""
        return f'{self.KIND} {self.method}'

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
        varied: the config that is varied, with all overrides.
        loaded: the same as a training loads it, with the folder of the images and the length.
        family: of the method; None if the table of choices does not name it.
        twins: the name of the random choice that hides as many patches, by choice.
        name: of the config, where several are varied; else empty.
    """

    base: Path
    folder: Path
    cells: list[Cell]
    configs: dict[str, Config]
    notes: list[str]
    varied: Config
    loaded: Config
    family: Family | None = None
    twins: dict[str, str] = field(default_factory=dict)
    name: str = ''

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
    masks: Sequence[str] = (),
    random_twin: RandomTwin | None = None,
    images: int | None = None,
    name: str = '',
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
        masks: names of masks in place of ``vary``; see :mod:`mstkit.experiments.named_masks`.
        random_twin: adds the random twin of each mask; see :func:`mstkit.experiments.mask_twins.with_twins`.
        images: the number of training images that every cell sees, in place of ``epochs``.
        name: of the config, where several are varied.

    Raises:
        UsageError: an argument cannot work, or the folder holds other cells.
    """
    options = dict(cfg_options or {})
    config = read_config(base)
    notes = apply_options(config, options)
    knn = _knn_hook(config, base, k)
    # A cell without k-NN accuracy would be useless: required=True makes it fail before training.
    required = {f'{knn}.required': True}
    more_options: dict[str, Any] = dict(auto_scale_lr=auto_scale_lr, amp=amp)
    loaded, more = load_config(base, {**options, **required}, data_root, epochs=epochs, **more_options)
    if images is not None:
        epochs, note = epochs_for(images, loaded)
        loaded, more = load_config(base, {**options, **required}, data_root, epochs=epochs, **more_options)
        more = [*more, note]
    apply_options(config, required)
    family = family_of(config, table)
    if masks:
        choices = mask_choices(masks, config, family, base)
    else:
        axes = parse_axes(vary, config, read_table(table))
        if epochs is not None and any(axis.key == LENGTH for axis in axes):
            option = f'--epochs {epochs}' if images is None else f'--images {images}'
            raise UsageError(f'{option}: --vary {LENGTH} gives the length; leave one of them out.')
        choices = expand(axes)
    twins: dict[str, str] = {}
    if random_twin is not None:
        choices, twins = with_twins(choices, named_choices(family) if masks else [], config, random_twin)
    for key in dict.fromkeys(key for choice in choices for key in choice.values):
        lost = [path for path in options if any(f'{path}.'.startswith(f'{one}.') for one in keys_of(key))]
        if lost:
            option = '--masks' if masks else f'--vary {key}'
            raise UsageError(f'--cfg-options {lost[0]}: {option} replaces it; leave one of them out.')
    folder = Path(work_dir or Path('work_dirs') / f'ablate_{Path(base).stem}')
    passed = ['--epochs', str(epochs)] if epochs else []
    passed += ['--auto-scale-lr'] if auto_scale_lr else []
    passed += ['--amp'] if amp else []
    images_from = ['--data-root', data_root] if data_root else []
    configs = {choice.name: choice.applied_to(config) for choice in choices}
    cells = [
        _cell(folder, choice, seed, configs[choice.name], images_from, passed, epochs, name)
        for seed in seeds
        for choice in choices
    ]
    for cell in cells:
        cell.check_ours()
    notes += [note for note in more if note not in notes]
    return Plan(Path(base), folder, cells, configs, notes, config, loaded, family, twins, name)


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


def _cell(
    folder: Path,
    choice: Choice,
    seed: int,
    config: Config,
    images_from: list[str],
    options: list[str],
    epochs: int | None,
    method: str,
) -> Cell:
    work_dir = folder / choice.folder / f'seed{seed}'
    file = work_dir.with_suffix('.py')
    exists, masker = find(config, 'model.masker')
    plain = config.to_dict(keep_imported=True)
    return Cell(
        group=choice.name,
        seed=seed,
        folder=work_dir,
        config=file,
        arguments=[str(file), '--seed', str(seed), '--work-dir', str(work_dir), *images_from, *options],
        about=dict(choice=choice.words, seed=seed),
        length=epochs or find(config, LENGTH)[1],
        fingerprint=fingerprint_of([plain, [*images_from, *options]]),
        settings=fingerprint_of([plain, options]),
        hides_nothing=exists and masker is None,
        method=method,
    )
