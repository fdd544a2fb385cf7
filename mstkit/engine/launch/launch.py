"""The steps from command-line arguments to a Runner; Python callers can use them too."""

from __future__ import annotations

import importlib.util
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DefaultScope

from mstkit.engine.config.config_options import apply_options
from mstkit.engine.config.data_root import check_data_roots, set_data_root
from mstkit.engine.config.downstream_options import (
    match_classes,
    match_keypoints,
    name_classes,
    set_num_classes,
    set_pretrained,
)
from mstkit.engine.config.fitted_values import fit
from mstkit.engine.config.run_length import set_epochs, set_iterations
from mstkit.engine.config.trackers import add_trackers
from mstkit.engine.parallel.distributed import backend_for_device, process_count
from mstkit.engine.runner.mst_runner import MSTRunner
from mstkit.errors import UsageError
from mstkit.registry import RUNNERS
from mstkit.utils.build_errors import build_guard, check_registered
from mstkit.utils.home_folder import expand_homes
from mstkit.utils.private_attributes import content_of
from mstkit.utils.shipped_files import find_config

SCOPE = 'mstkit'


def load_config(
    path: str | Path,
    cfg_options: Mapping[str, Any] | None = None,
    data_root: str | None = None,
    work_dir: str | None = None,
    seed: int | None = None,
    launcher: str = 'none',
    resume: str | None = None,
    accept_changes: bool = False,
    auto_scale_lr: bool = False,
    amp: bool = False,
    epochs: int | None = None,
    iterations: int | None = None,
    pretrained: str | None = None,
    branch: str | None = None,
    num_classes: int | None = None,
    track: Sequence[str] = (),
) -> tuple[Config, list[str]]:
    """Reads a config and applies command-line arguments to it.

    Args:
        path: the config file, or the name of a config that comes with mstkit.
        cfg_options: overrides by dotted path; see :func:`mstkit.engine.config.config_options.apply_options`.
        data_root: a folder for every data set of the config.
        work_dir: where the run writes; ``./work_dirs/CONFIG-NAME`` unless the config says otherwise.
        seed: the run's seed; takes precedence over the config.
        launcher: the program that started the processes.
        resume: ``'auto'`` resumes the newest checkpoint of the work dir, a path that checkpoint; None starts anew.
        accept_changes: resume although config or images differ from those of the checkpoint.
        auto_scale_lr: scale the learning rate with the global batch.
        amp: mixed precision; ``DistillationOptimWrapper`` has it by default.
        epochs: new number of epochs; the schedules are adapted.
        iterations: the same for a config that counts in iterations.
        pretrained: the checkpoint whose backbone a downstream run starts from.
        branch: of that checkpoint, ``'student'`` or ``'teacher'``.
        num_classes: for heads and data sets; None reads it from the training data, if the data set supports that.
        track: names of trackers; see :func:`mstkit.engine.config.trackers.add_trackers`.

    Returns:
        The config, and lines that tell the user what was changed in it.

    Raises:
        UsageError: the file or an override is wrong, or a data root is missing.
    """
    config = read_config(path)
    config.setdefault('default_scope', SCOPE)
    _set_scope(config.default_scope)
    notes = apply_options(config, cfg_options or {})
    if epochs is not None:
        notes += set_epochs(config, epochs)
    if iterations is not None:
        notes += set_iterations(config, iterations)
    if seed is not None:
        config.randomness = {**config.get('randomness', {}), 'seed': seed}
    if data_root is not None:
        roots = set_data_root(config, data_root)
        notes.append(f'data root {data_root} for {", ".join(roots)}')
    check_data_roots(config)
    # First, since the screen shows two, and these are the numbers that no config shows.
    notes = fit(config, process_count(launcher)) + notes
    notes += match_classes(config) + match_keypoints(config)
    if num_classes is not None:
        notes += set_num_classes(config, num_classes)
    name_classes(config)
    if pretrained is not None or branch is not None:
        notes += set_pretrained(config, pretrained, branch)
    config.work_dir = work_dir or config.get('work_dir') or str(Path('work_dirs') / Path(path).stem)
    config.launcher = launcher
    if resume is not None:
        config.resume = True
        config.load_from = None if resume == 'auto' else resume
    if accept_changes:
        config.accept_changes = True
    if auto_scale_lr:
        config.auto_scale_lr = {**(config.get('auto_scale_lr') or {}), 'enable': True}
    if amp:
        turn_on_amp(config)
    set_environment(config)
    return config, notes + add_trackers(config, track)


def _set_scope(name: str) -> None:
    """Sets the current registry scope like mmengine's ``init_default_scope``, but without its warning."""
    current = DefaultScope.get_current_instance()
    if current is None or current.scope_name != name:
        DefaultScope.get_instance(f'{name}-{uuid.uuid4().hex}', scope_name=name)


def read_config(path: str | Path) -> Config:
    """Reads a config file.

    Args:
        path: of the file, or the name of a config that comes with mstkit, see
            :func:`mstkit.utils.shipped_files.find_config`.

    Raises:
        UsageError: the file is missing, or it or one of its bases cannot be read.
    """
    file = find_config(path)
    try:
        config = Config.fromfile(str(file))
        expand_homes(content_of(config))
        return config
    except Exception as error:  # a config is a program: it may fail in any way
        reason = ' '.join(str(error).split()) or 'no reason given'
        raise UsageError(f'config {path} cannot be read: {type(error).__name__}: {reason}') from error


def turn_on_amp(config: Config) -> None:
    """Makes the optimizer wrapper of a config use mixed precision.

    Raises:
        UsageError: the type of the optimizer wrapper has no mixed precision.
    """
    wrapper = config.get('optim_wrapper')
    kind = (wrapper or {}).get('type', 'OptimWrapper').removeprefix('mstkit.')
    if kind == 'DistillationOptimWrapper':
        wrapper['precision'] = 'auto'
    elif kind == 'OptimWrapper':
        wrapper['type'] = 'AmpOptimWrapper'
        wrapper.setdefault('loss_scale', 'dynamic')
    elif kind != 'AmpOptimWrapper':
        raise UsageError(f'--amp cannot be used with optim_wrapper.type={kind}.')


def set_environment(config: Config) -> None:
    """Adds what depends on the machine (communication backend, TensorBoard if installed) and the sampler's seed."""
    environment = config.get('env_cfg') or {}
    dist_cfg = {**environment.get('dist_cfg', {}), 'backend': backend_for_device()}
    config.env_cfg = {**environment, 'dist_cfg': dist_cfg}
    if (config.get('visualizer') or {}).get('vis_backends') and importlib.util.find_spec('tensorboard') is not None:
        add_trackers(config, ['tensorboard'])
    seed = (config.get('randomness') or {}).get('seed')
    sampler = (config.get('train_dataloader') or {}).get('sampler')
    if seed is not None and isinstance(sampler, dict):
        sampler.setdefault('seed', seed)


def build_runner(config: Config, changes: Sequence[str] = ()) -> MSTRunner:
    """Builds the runner of a config and all its parts; an error leaves the work dir unchanged.

    Args:
        config: of the run.
        changes: lines of :func:`load_config`, for the run's ``events.jsonl``.

    Raises:
        UsageError: the config cannot work.
    """
    # runner_type is not written into the config: its copy in the work dir also has to work with the tools of mmdet,
    # mmseg and mmpretrain, whose own runner tests without the training data.
    kind = config.get('runner_type', 'mstkit.MSTRunner')  # with its prefix, since the config may have another scope
    check_registered(dict(type=kind), RUNNERS)
    with build_guard():
        runner = RUNNERS.get(kind).from_cfg(config.copy())
    runner.events.changes += changes
    runner.screen.changes += changes
    for change in changes:
        runner.screen.to_file(change)
    return runner
