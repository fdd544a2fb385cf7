"""mmengine's Runner with early checks of the config, safe checkpoints and exact resuming."""

from __future__ import annotations

from mstkit_waiting import how_long_turns_are, how_threads_wait

import os
from contextlib import nullcontext
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import convert_sync_batchnorm, is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict, _ParamScheduler
from mmengine.registry import DefaultScope
from mmengine.runner import BaseLoop, IterBasedTrainLoop
from mmengine.utils.dl_utils import has_batch_norm
from torch import nn

from mstkit.engine.checkpoints.data_fingerprint import fingerprint
from mstkit.engine.checkpoints.data_order import batch_size_of, check_order
from mstkit.engine.checkpoints.starting_checkpoint import Built, StartingCheckpoint, check_start, find_start
from mstkit.engine.config.formatted_config import formatted_once
from mstkit.engine.config.loader_checks import check_settings
from mstkit.engine.hooks.colored_views import check_colored
from mstkit.engine.optim.optim_wrapper import DistillationOptimWrapper
from mstkit.engine.optim.param_schedules import base_lr, build_schedule, fit_schedules
from mstkit.engine.parallel import cpu_settings
from mstkit.engine.parallel.distributed import init_processes, unwrapped
from mstkit.engine.parallel.heartbeat import heartbeat
from mstkit.engine.parallel.model_wrapping import ddp_settings
from mstkit.engine.parallel.sharding import shard, wants_sharding
from mstkit.engine.runner import preflight
from mstkit.engine.runner.batch_norm_checks import check_batch_norms
from mstkit.engine.runner.compiling import check_compiling, compile_parts
from mstkit.engine.runner.required_hooks import guard_training, keep_scores
from mstkit.engine.runner.view_checks import check_views
from mstkit.engine.runner.work_dir import WorkDir
from mstkit.engine.screen.console import Screen
from mstkit.engine.screen.shown_runner import ShownRunner
from mstkit.errors import UsageError
from mstkit.registry import RUNNERS
from mstkit.utils.build_errors import build_guard
from mstkit.utils.local_shards import is_sharded
from mstkit.utils.private_attributes import accumulative_counts


@RUNNERS.register_module()
class MSTRunner(ShownRunner):
    """Runner of mstkit; takes the same config as mmengine's Runner.

    Differences to mmengine's:

    * Model, data, hooks, optimizer and the checkpoint to start from are built and checked before the work dir is made.
    * Checkpoints are written atomically, hold plain data only, and reading one executes no code.
    * Only one training at a time can use a work dir; the files of an earlier run there are moved to a subfolder.
    * A checkpoint of another model, or of a run with another number of iterations per epoch, is refused.
    * A training that diverges stops, and its good checkpoints stay (see :mod:`mstkit.engine.runner.required_hooks`).
    * Schedules count optimizer steps, whatever their unit in the config, and reach the config's learning rate.
    * A run can be resumed inside an epoch.
    * Several CPU processes (gloo) can be used like several GPUs.

    Raises:
        UsageError: the config cannot work.
    """

    def __init__(self, model: nn.Module | dict, work_dir: str, **settings: Any) -> None:
        self.screen = Screen(settings.get('cfg') or {})
        with self.screen.listening():
            self._build(model, work_dir, settings)

    def _build(self, model: nn.Module | dict, work_dir: str, settings: dict[str, Any]) -> None:
        self._start = StartingCheckpoint()
        self._work_dir_claim: WorkDir | None = None
        scope = settings.setdefault('default_scope', 'mstkit')
        prepared = cpu_settings.prepare_as(settings)
        init_processes(settings.get('launcher', 'none'), settings.get('env_cfg', {}).get('dist_cfg'))
        with DefaultScope.overwrite_default_scope(scope), self.screen.gathering():
            model = self._prepare(model, work_dir, settings)
        if isinstance(settings.get('cfg'), Config):
            settings['cfg'] = formatted_once(settings['cfg'])
        super().__init__(model=model, work_dir=work_dir, **settings)
        for note in [*self._start.notes, *(self._work_dir_claim.notes if self._work_dir_claim else [])]:
            self.logger.warning(note)
        for remark in self._remarks:
            self.logger.info(remark)
        if prepared:
            self.logger.info(f'CPU: {"; ".join(prepared)} (env_cfg.cpu)')
        self.logger.info('; '.join(filter(None, [how_threads_wait(os.environ), how_long_turns_are()])))

    def _prepare(self, model: nn.Module | dict, work_dir: str, settings: dict[str, Any]) -> nn.Module:
        """Builds and checks model, hooks and loaders; ``settings`` gets the built objects in place of their configs."""
        self._remarks = check_settings(settings)
        trains = settings.get('train_cfg') is not None and settings.get('train_dataloader') is not None
        claim = WorkDir(work_dir, settings.get('default_hooks')) if trains else None
        if claim is not None:
            claim.enter()
        self._start = find_start(
            work_dir,
            settings.get('load_from'),
            bool(settings.get('resume')),
            run=claim.run if claim else None,
            more=claim.folders[1:] if claim else (),
        )
        randomness = preflight.choose_randomness(settings.get('randomness'), self._start)
        settings['randomness'] = randomness
        model = preflight.build_model(model, settings.pop('data_preprocessor', None))
        hooks = preflight.with_step_schedules(settings.get('default_hooks')), settings.get('custom_hooks')
        settings['default_hooks'], settings['custom_hooks'] = (
            guard_training(*hooks) if trains else map(preflight.build_hooks, hooks)
        )
        if trains:
            keep_scores(model, settings['default_hooks'], settings['custom_hooks'])
        if self._start.path is None:  # otherwise all weights come from the starting checkpoint
            preflight.check_pretrained(model, settings['default_hooks'], settings['custom_hooks'])
        built = Built(model, settings.get('cfg') or {})
        if trains:
            loader = preflight.build_train_loader(settings['train_dataloader'], randomness)
            settings['train_dataloader'] = loader
            check_order(loader, self._start)
            settings['val_dataloader'] = preflight.build_val_loader(settings.get('val_dataloader'), randomness)
            check_views(model, loader, settings.get('cfg'))
            check_colored(model, loader)
            preflight.check_global_batch(model, loader)
            check_batch_norms(model, loader, settings.get('cfg'))
            preflight.check_classes(model, loader)
            built.data = self._data = fingerprint(loader.dataset)
            length, built.by_epoch = _run_length(settings, len(loader))
            if isinstance(settings.get('optim_wrapper'), OptimWrapper | dict):
                built.wrapper, built.counter = preflight.try_optimizer(
                    model, settings['optim_wrapper'], settings.get('param_scheduler'), *length
                )
                if self._start.resume:
                    lr = base_lr(built.wrapper)
                    built.schedules = len(fit_schedules(settings.get('param_scheduler'), built.counter, lr).configs)
        if built.counter is not None:
            preflight.check_driven(model, settings['custom_hooks'])
            preflight.check_temperatures(model, built.counter.max_epochs)
        scaling = settings.get('auto_scale_lr') or {}
        if scaling.get('enable') and not scaling.get('base_batch_size'):
            raise UsageError(
                '--auto-scale-lr needs the batch size that the lr of the config is meant for: '
                '--cfg-options auto_scale_lr.base_batch_size=256, for example.'
            )
        self._start.notes += check_start(self._start, built)
        check_compiling(model, (settings.get('cfg') or {}).get('compile'))
        if claim is not None:
            claim.occupy(self._start)
            self._work_dir_claim, self._run_id = claim, claim.run
        return model

    def train(self) -> nn.Module:
        """As mmengine's; releases the work dir at the end, for other trainings.

        Processes that train together notice when one of them is lost, see :mod:`mstkit.engine.parallel.heartbeat`.
        """
        try:
            with heartbeat(self.cfg.get('env_cfg') or {}) or nullcontext():
                return super().train()
        finally:
            if self._work_dir_claim is not None:
                self._work_dir_claim.leave()

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """As mmengine's, with :func:`ddp_settings`; on the CPU without device ids and without SyncBatchNorm."""
        if not self.distributed or is_model_wrapper(model):
            if wants_sharding(model_wrapper_cfg):
                self.logger.info('a single process: nothing is sharded')
                model_wrapper_cfg = None
            return super().wrap_model(model_wrapper_cfg, model)
        if wants_sharding(model_wrapper_cfg):
            return self._sharded(model, model_wrapper_cfg or {})
        unused = self.cfg.get('find_unused_parameters', False)
        settings = ddp_settings(model, model_wrapper_cfg, self.optim_wrapper, unused)
        if torch.cuda.is_available():
            return super().wrap_model(settings, model)
        if has_batch_norm(model) and self.world_size > 1:
            self.logger.warning(
                f'BatchNorm is not synchronized over the {self.world_size} CPU processes: each normalizes by the '
                'statistics of its own images. On GPUs it is synchronized.'
            )
        settings = {'device_ids': None, **settings}
        sync_bn = self.cfg.get('sync_bn')
        self.cfg.sync_bn = None
        try:
            return super().wrap_model(settings, model)
        finally:
            self.cfg.sync_bn = sync_bn

    def _maybe_compile(self, target: str) -> None:
        """Compiles parts of the model; mmengine's would compile ``target``, the whole step."""
        compiled = compile_parts(unwrapped(self.model), self.cfg.get('compile'))
        if compiled:
            self.logger.info(f'compiled: {compiled}; the first steps take longer')

    def _sharded(self, model: nn.Module, settings: dict) -> nn.Module:
        if torch.cuda.is_available() and self.cfg.get('sync_bn') is not None:
            model = convert_sync_batchnorm(model, self.cfg.sync_bn)
        sharded = shard(model, settings)
        self.logger.info(f'weights, gradients and optimizer state are spread over {self.world_size} processes')
        return sharded

    def _init_model_weights(self) -> None:
        """As mmengine's; does nothing for a sharded model, which was initialized before sharding."""
        if not is_sharded(self.model):
            super()._init_model_weights()

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """As mmengine's, but with :class:`ResumableEpochLoop` if the config has ``by_epoch=True``."""
        if isinstance(loop, dict) and loop.get('by_epoch') and 'type' not in loop:
            loop = {**loop, 'type': 'ResumableEpochLoop'}
            loop.pop('by_epoch')
        with build_guard():
            return super().build_train_loop(loop)

    def build_optim_wrapper(self, optim_wrapper: Any) -> OptimWrapper | OptimWrapperDict:
        """As mmengine's; with :class:`DistillationOptimWrapper`, gradients never accumulate over an epoch's end."""
        built = super().build_optim_wrapper(optim_wrapper)
        counts, length = accumulative_counts(built), self.train_loop.max_iters // self.max_epochs
        if isinstance(built, DistillationOptimWrapper):
            built.set_epoch_length(length)
        elif length % counts:
            self.logger.warning(
                f'{type(built).__name__} accumulates {counts} iterations over the ends of epochs of {length}, so that '
                f'its steps and those of the schedules are up to {counts - 1} iterations apart. '
                'DistillationOptimWrapper starts a new accumulation with every epoch.'
            )
        return built

    def _build_param_scheduler(self, scheduler: Any, optim_wrapper: OptimWrapper) -> list[_ParamScheduler]:
        """As mmengine's, but with :func:`fit_schedules`, which counts optimizer steps; changes are logged."""
        counter = self.step_counter
        fit = fit_schedules(scheduler, counter, base_lr(optim_wrapper))
        for note in fit.notes:
            self.logger.warning(note)
        if fit.configs:
            self.logger.info(f'schedules: {fit}')
        self.rate_in_words = f'lr {fit.peak:g}, reached at step {fit.peak_step} of {fit.total_steps}'
        return [build_schedule(config, optim_wrapper, counter) for config in fit.configs]

    def scale_lr(self, optim_wrapper: OptimWrapper, auto_scale_lr: dict | None = None) -> None:
        """Scales the learning rate with the global batch if ``auto_scale_lr`` is enabled, and logs it in any case."""
        if isinstance(optim_wrapper, OptimWrapperDict):
            super().scale_lr(optim_wrapper, auto_scale_lr)
            return
        counts = accumulative_counts(optim_wrapper)
        per_device = batch_size_of(self.train_loop.dataloader)
        batch = per_device * self.world_size * counts
        written = optim_wrapper.optimizer.defaults['lr']
        verdict = 'as written in the config; --auto-scale-lr would scale it with the batch'
        if auto_scale_lr and auto_scale_lr.get('enable'):
            base = auto_scale_lr['base_batch_size']
            for group in optim_wrapper.param_groups:  # also the group that mmengine adds for the log
                group['lr'] *= batch / base
            verdict = f'scaled from {written:g} at batch {base}'
            written *= batch / base
        self.logger.info(
            f'global batch {batch} = {per_device} per device x {self.world_size} processes x {counts} accumulated; '
            f'lr {written:g} ({verdict})'
        )


def _run_length(settings: dict[str, Any], batches: int) -> tuple[tuple[int, int], bool]:
    """The length of a run, as (iterations per epoch, epochs), and whether its config counts in epochs.

    A run that counts in iterations is treated as a single epoch.

    Args:
        settings: of the runner.
        batches: length of the training loader.

    Raises:
        UsageError: ``train_cfg`` has neither ``max_epochs`` nor ``max_iters``.
    """
    loop = settings['train_cfg']
    if not isinstance(loop, dict):
        by_iteration = isinstance(loop, IterBasedTrainLoop)
        return (loop.max_iters, 1) if by_iteration else (batches, loop.max_epochs), not by_iteration
    unit = 'max_iters' if 'max_iters' in loop else 'max_epochs'
    if unit not in loop:
        raise UsageError('train_cfg has no max_epochs: train_cfg=dict(by_epoch=True, max_epochs=100), for example.')
    length = loop[unit]
    return ((length, 1), False) if unit == 'max_iters' else ((batches, length), True)
