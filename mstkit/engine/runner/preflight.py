"""Builds and checks everything that a run needs before anything is written to the disk."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import get_world_size, sync_random_seed
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict, build_optim_wrapper
from mmengine.registry import HOOKS, MODELS
from mmengine.runner import Runner
from mmengine.runner.utils import set_random_seed
from torch import nn
from torch.utils.data import DataLoader

from mstkit.datasets import EpochSampler
from mstkit.datasets.dataset_interface import metainfo_of
from mstkit.datasets.file_dataset import keep_in_memory
from mstkit.engine.checkpoints.data_order import batch_size_of, sampler_of
from mstkit.engine.checkpoints.starting_checkpoint import StartingCheckpoint
from mstkit.engine.hooks.pretrained_backbone_hook import PretrainedBackboneHook
from mstkit.engine.hooks.progress_hook import ProgressHook
from mstkit.engine.optim.param_schedules import base_lr, build_schedule, fit_schedules
from mstkit.engine.optim.step_counts import StepCounter
from mstkit.engine.parallel.data_agreement import check_same_loader
from mstkit.errors import UsageError
from mstkit.models import interface_of
from mstkit.models.heads import CenteredHead
from mstkit.registry import OPTIMIZERS
from mstkit.utils.build_errors import build_guard, check_registered, component_called
from mstkit.utils.noted_signals import OutlivingWorker
from mstkit.utils.open_files import allow_open_files
from mstkit.utils.private_attributes import accumulative_counts


def choose_randomness(randomness: Mapping[str, Any] | None, start: StartingCheckpoint) -> dict[str, Any]:
    """Chooses the seed (config, resumed checkpoint, or at random) and seeds the global random generators.

    Raises:
        UsageError: the resumed run had another seed, so that its data order cannot be continued.
    """
    chosen = dict(randomness or {})
    saved = start.meta.get('seed')
    if chosen.get('seed') is None:
        chosen['seed'] = sync_random_seed() if saved is None else saved
    elif saved is not None and saved != chosen['seed']:
        raise UsageError(
            f'{start.path} was trained with seed {saved}, this run asks for {chosen["seed"]}: '
            f'resume with --seed {saved}, or leave --resume out to start a new run.'
        )
    set_random_seed(**chosen)
    return chosen


def build_model(model: nn.Module | dict, data_preprocessor: dict | None = None) -> nn.Module:
    """Builds the model on the device that it will train on."""
    if isinstance(model, nn.Module):
        return model.to(get_device())
    if data_preprocessor is not None:
        model.setdefault('data_preprocessor', data_preprocessor)
    with build_guard():
        return MODELS.build(model).to(get_device())


def build_train_loader(config: DataLoader | dict, randomness: Mapping[str, Any]) -> DataLoader:
    """Builds the training data loader.

    Raises:
        UsageError: the data set cannot be built, is smaller than a batch, or differs between the processes; its images
            are to be kept in memory and do not fit.
    """
    loader = _build_loader(config, randomness, 'the training set')
    if len(loader) == 0:
        ranks = get_world_size()
        images = len(loader.dataset)  # type: ignore[arg-type]
        raise UsageError(
            f'the data set has {images} images, fewer than one batch of {batch_size_of(loader)} on {ranks} '
            f'process{"es" if ranks > 1 else ""}: set --cfg-options train_dataloader.batch_size='
            f'{max(images // ranks, 1)} or less, or give more images.'
        )
    keep_in_memory(loader.dataset)
    return loader


def build_val_loader(config: DataLoader | dict | None, randomness: Mapping[str, Any]) -> DataLoader | None:
    """Builds the data loader of the validations during training, so that errors in its data set show early.

    Raises:
        UsageError: the data set cannot be built, or differs between the processes.
    """
    return None if config is None else _build_loader(config, randomness, 'the validation set')


def _build_loader(config: DataLoader | dict, randomness: Mapping[str, Any], what: str) -> DataLoader:
    with build_guard():
        loader = Runner.build_dataloader(config, randomness['seed'], randomness.get('diff_rank_seed', False))
    allow_open_files(loader.num_workers)
    loader.worker_init_fn = OutlivingWorker(loader.worker_init_fn)
    sampler = sampler_of(loader)
    if isinstance(sampler, EpochSampler):
        sampler.set_loader(batch_size_of(loader), loader.num_workers)
    check_same_loader(what, loader)
    return loader


def check_global_batch(model: nn.Module, loader: DataLoader) -> None:
    """Calls the model's ``check_batch``, if it has one, with the number of images of an iteration over all ranks."""
    interface_of(model).check_batch(batch_size_of(loader) * get_world_size())


def check_classes(model: nn.Module, loader: DataLoader) -> None:
    """Refuses a model one of whose heads has another number of classes than the data set.

    Raises:
        UsageError: with both numbers.
    """
    classes = metainfo_of(loader.dataset).get('classes')
    for name, module in model.named_modules():
        outputs = getattr(module, 'num_classes', None)  # heads of all packages call it so, without a common class
        if classes and 'head' in name and isinstance(outputs, int) and outputs not in (len(classes), 1):
            raise UsageError(
                f'the data set has {len(classes)} classes ({", ".join(map(str, classes[:3]))}, ...) and {name} is made '
                f'for {outputs}: give --num-classes {len(classes)}, or set --cfg-options '
                f'model.{name}.num_classes={len(classes)}.'
            )


def with_step_schedules(hooks: Mapping[str, Any] | None) -> dict[str, Any]:
    """Replaces mmengine's ``ParamSchedulerHook`` in the default hooks by one that counts optimizer steps.

    mmengine's hook, which is also its default, moves schedules once per iteration: with accumulated gradients the
    learning rate would reach its final value too early.
    """
    ours = 'mstkit.StepParamSchedulerHook'
    given = {'param_scheduler': dict(type=ours), **(hooks or {})}
    hook = given['param_scheduler']
    if isinstance(hook, Mapping) and str(hook.get('type')).split('.')[-1] == 'ParamSchedulerHook':
        given['param_scheduler'] = {**hook, 'type': ours}
    return given


def build_hooks(hooks: Mapping[str, Any] | list | None) -> Any:
    """Builds mstkit's own hooks from their configs, so that errors in them show early.

    Hooks of other packages stay configs, only their types are looked up: some of them need the runner's visualizer
    when they are built.

    Raises:
        UsageError: an unknown hook or a wrong argument.
    """
    if hooks is None:
        return None
    if isinstance(hooks, Mapping):
        standard = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')
        # None switches off one of mmengine's standard hooks; under another name None fails an assertion of mmengine.
        kept = {name: hook for name, hook in hooks.items() if hook is not None or name in standard}
        return {name: None if hook is None else _build_hook(hook) for name, hook in kept.items()}
    return [_build_hook(hook) for hook in hooks]


def _build_hook(hook: Hook | Mapping[str, Any]) -> Hook | dict:
    if isinstance(hook, Hook):
        return hook
    config = copy.deepcopy(dict(hook))
    with build_guard():
        cls = config.get('type')
        if isinstance(cls, str):
            with HOOKS.switch_scope_and_registry(None) as registry:  # the registry of the config's scope
                cls = component_called(cls, registry)
        if cls is not None and not cls.__module__.startswith('mstkit.'):
            return config
        priority = config.pop('priority', None)
        built = HOOKS.build(config)
    if priority is not None:
        built.priority = priority
    return built


def check_pretrained(model: nn.Module, *hooks: Mapping[str, Any] | list | None) -> None:
    """Refuses a pre-trained backbone that does not fit the model.

    Args:
        model: the model.
        hooks: results of :func:`build_hooks`.

    Raises:
        UsageError: the checkpoint is of another network.
    """
    for some in hooks:
        for hook in some.values() if isinstance(some, Mapping) else some or ():
            if isinstance(hook, PretrainedBackboneHook):
                hook.check(model)


def check_temperatures(model: nn.Module, max_epochs: int) -> None:
    """Refuses a teacher whose temperature would still be warming up when the run ends.

    Raises:
        UsageError: with the length that the run needs.
    """
    for module, part in model.named_modules():
        if not isinstance(part, CenteredHead):
            continue
        name = interface_of(model).config_key(module)
        warmup, start = part.warmup_teacher_temp_epochs, part.start_epoch
        if warmup and warmup + start > max_epochs and part.warmup_teacher_temp != part.final_teacher_temp:
            after = f' after epoch {start}' if start else ''
            reached = part.teacher_temp_at(max_epochs - 1)
            raise UsageError(
                f"the teacher's temperature warms up over {warmup} epochs{after} (model.{name}), and the run has "
                f'{max_epochs}: it would end at {reached:.3g} instead of {part.final_teacher_temp:.3g}. Change the '
                'length with --epochs, which adapts the warm-up, or set --cfg-options '
                f'model.{name}.warmup_teacher_temp_epochs={max(max_epochs - start, 0)}.'
            )


def check_driven(model: nn.Module, hooks: list | None) -> None:
    """Refuses a model that has to be called after every optimizer step (``needs_progress``) without ``ProgressHook``.

    Raises:
        UsageError: ``custom_hooks`` has no ``ProgressHook``.
    """
    if interface_of(model).needs_progress and not any(isinstance(hook, ProgressHook) for hook in hooks or ()):
        raise UsageError(
            f'{type(model).__name__} has to be called after every step, but custom_hooks has no '
            "dict(type='ProgressHook'): add it (configs/_base_/default_runtime.py has it)."
        )


def try_optimizer(
    model: nn.Module, optim_wrapper: OptimWrapper | dict, schedulers: Any, iters_per_epoch: int, max_epochs: int
) -> tuple[OptimWrapper, StepCounter]:
    """Builds optimizer and schedules to find errors early; the Runner builds its own later.

    Returns:
        The optimizer wrapper, and the run's step counter.

    Raises:
        UsageError: one of them cannot be built, or the schedules never reach the learning rate.
    """
    if isinstance(optim_wrapper, Mapping):
        check_registered(optim_wrapper.get('optimizer'), OPTIMIZERS)
    with build_guard(), _without_log():
        wrapper = (
            optim_wrapper if isinstance(optim_wrapper, OptimWrapper) else build_optim_wrapper(model, optim_wrapper)
        )
        counter = StepCounter(iters_per_epoch, max_epochs, accumulative_counts(wrapper))
        if schedulers and isinstance(wrapper, OptimWrapper) and not isinstance(wrapper, OptimWrapperDict):
            for config in fit_schedules(schedulers, counter, base_lr(wrapper)).configs:
                build_schedule(config, _optimizer_copy(wrapper), counter)
    return wrapper, counter


def _optimizer_copy(wrapper: OptimWrapper) -> torch.optim.Optimizer:
    """An optimizer with the same settings, so that schedules can be built without changing the original."""
    groups = [{**group, 'params': [nn.Parameter(torch.zeros(1))]} for group in wrapper.optimizer.param_groups]
    return torch.optim.AdamW(groups, lr=wrapper.optimizer.param_groups[0]['lr'])


@contextmanager
def _without_log() -> Iterator[None]:
    """Switches the log off: mmengine logs every parameter, frozen ones as warnings, whenever it builds an optimizer."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
