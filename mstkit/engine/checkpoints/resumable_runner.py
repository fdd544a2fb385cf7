"""A Runner with atomic checkpoints that execute no code when read, and with exact resuming."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import mmengine
from mmengine.dist import is_main_process
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from mmengine.utils.dl_utils import collect_env
from torch import nn

from mstkit.datasets.dataset_interface import metainfo_of
from mstkit.engine.checkpoints import checkpointing
from mstkit.engine.checkpoints.data_order import data_order
from mstkit.engine.checkpoints.run_ending import SignalListener, as_stop, log_why_it_stopped
from mstkit.engine.checkpoints.run_events import FirstIterationHook, RunEvents
from mstkit.engine.checkpoints.sharded_saving import save_sharded
from mstkit.engine.checkpoints.starting_checkpoint import StartingCheckpoint
from mstkit.engine.optim.resumed_schedules import (
    changed_settings,
    keep_implementation,
    settings_of,
    shapes_differ,
    steps_done,
    take_settings,
)
from mstkit.engine.optim.step_counts import StepCounter
from mstkit.engine.parallel.distributed import unwrapped
from mstkit.engine.parallel.sharding import spread_like, spread_optimizer_state
from mstkit.errors import UsageError, write_any_name
from mstkit.interop.checkpoint import read_checkpoint
from mstkit.utils.local_shards import is_sharded
from mstkit.utils.noted_signals import noted_signals
from mstkit.utils.private_attributes import accumulative_counts, content_of, set_progress

_LOGGED = ('lr', 'weight_decay')


class ResumableRunner(Runner):
    """Saves, loads and resumes checkpoints; base class of :class:`mstkit.engine.screen.shown_runner.ShownRunner`.

    A checkpoint holds the model, the optimizer, the schedules, the message hub, epoch and iteration. It holds no
    states of random generators: ``ProgressHook`` derives all randomness from (seed, rank, iteration).
    """

    _start: StartingCheckpoint
    _data: dict[str, Any] | None = None  # the fingerprint of the training set
    _run_id: str | None = None  # the id of the run, the same in all its checkpoints
    signals: Sequence[int] = ()  # that asked this run to end
    weights_in_words = ''  # what has been loaded of which checkpoint of the whole model

    @cached_property
    def _config_text(self) -> str:
        return self.cfg.pretty_text  # cached, because formatting is slow

    @property
    def step_counter(self) -> StepCounter:
        """Converts iterations of this run to optimizer steps."""
        counts = accumulative_counts(self.optim_wrapper)
        max_epochs = max(self.train_loop.max_epochs, 1)
        return StepCounter(self.train_loop.max_iters // max_epochs, max_epochs, counts)

    def build_logger(self, *args: Any, **settings: Any) -> MMLogger:
        """As mmengine's, but file names that are not UTF-8 can be logged, and events are recorded."""
        logger = super().build_logger(*args, **settings)
        for handler in logger.handlers:
            if isinstance(handler, logging.StreamHandler):
                write_any_name(handler.stream)
        self.events = RunEvents(self.work_dir)
        logger.addHandler(self.events)
        return logger

    def _log_env(self, env_cfg: dict) -> None:
        """As mmengine's, with the same text; the environment is also kept for the run's record of events."""
        machine, settings = collect_env(), dict(env_cfg, **self._randomness_cfg)
        settings |= {'seed': self._seed, 'Distributed launcher': self._launcher}
        settings |= {'Distributed training': self._distributed, 'GPU number': self._world_size}
        self.events.environment = {name: str(value) for name, value in {**machine, **settings}.items()}
        of_machine, of_run = (
            ''.join(f'\n    {name}: {value}' for name, value in one.items()) for one in (machine, settings)
        )
        line = '-' * 60
        said = [f'\n{line}\nSystem environment:{of_machine}\n\nRuntime environment:{of_run}\n{line}\n']
        said += [f'Config:\n{self.cfg.pretty_text}'] if content_of(self.cfg) else []
        for text in said:
            self.logger.info(text, stacklevel=2)  # as if logged by mmengine, so that RunEvents skips it

    def train(self) -> nn.Module:
        """As mmengine's; records events, and logs where and why a run stopped if it stops before its end.

        Raises:
            DiskError: the disk is full; the message names the last good checkpoint.
            StoppedBySignal: a signal asked the run to end.
        """
        self.register_hook(FirstIterationHook(self.events))
        try:
            self.events.open(self)
            with noted_signals(SignalListener(self)) as self.signals:
                return super().train()
        except BaseException as error:
            stop = as_stop(self, error, self.signals)
            log_why_it_stopped(self, stop)
            if stop is error:
                raise
            raise stop from error
        finally:
            self.logger.removeHandler(self.events)

    def load_or_resume(self) -> None:
        """Starts from the checkpoint that was found and checked when the runner was built."""
        if self._has_loaded:
            return
        start = self._start
        if start.path is None:
            if self._resume:
                self.logger.info(f'nothing to resume in {self.work_dir}: starting from scratch')
        elif start.resume:
            self.resume(str(start.path))
        else:
            self.load_checkpoint(str(start.path))
        self._start = StartingCheckpoint()  # frees the memory

    def load_checkpoint(
        self, filename: str, map_location: Any = 'cpu', strict: bool = False, revise_keys: list | None = None
    ) -> dict:
        """Loads weights without executing anything that the file may hold.

        Args:
            filename: a local file.
            map_location: not used: weights are read to the CPU and copied from there.
            strict: the names of weights have to be exactly those of the model.
            revise_keys: not used; the prefix ``module.`` is always removed.

        Returns:
            The content of the file.

        Raises:
            UsageError: not a checkpoint, or one of another model.
        """
        same = self._start.path is not None and str(self._start.path) == str(filename)
        checkpoint = self._start.checkpoint if same and self._start.checkpoint else read_checkpoint(filename)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        model = unwrapped(self.model)
        weights = checkpointing.weights_of(checkpoint)
        if strict:
            checkpointing.check_same_model(model.state_dict(), weights, filename)
            said = f'Loaded {len(weights)} tensors from {filename}.'
        else:
            said = checkpointing.load_what_fits(model.state_dict(), weights, filename)
        self.weights_in_words = said
        self.logger.info(said)
        if is_sharded(model):
            own = model.state_dict()
            weights = {name: spread_like(value, own.get(name)) for name, value in weights.items()}
        model.load_state_dict(weights, strict=strict)
        self._has_loaded = True
        return checkpoint

    def resume(
        self,
        filename: str,
        resume_optimizer: bool = True,
        resume_param_scheduler: bool = True,
        map_location: Any = 'default',
    ) -> None:
        """Resumes the run that wrote a checkpoint; on the CPU the result is bit-identical to an uninterrupted run.

        Args:
            filename: the checkpoint.
            resume_optimizer: load the optimizer's state.
            resume_param_scheduler: load the schedules' state.
            map_location: not used.

        Raises:
            UsageError: not a checkpoint, or one of another model.
        """
        checkpoint = self.load_checkpoint(filename, strict=True)
        meta = checkpoint['meta']
        set_progress(self.train_loop, meta['epoch'], meta['iter'])
        checkpointing.restore_hub(self.message_hub, checkpoint['message_hub'])
        checkpointing.rename_files(self.message_hub, self.work_dir)
        restored = ['the log']
        states = checkpoint.get('param_schedulers', []) if resume_param_scheduler and self.param_schedulers else []
        if resume_optimizer:
            self._resume_steps(checkpoint['optimizer'], states, meta['iter'])
            entries = checkpoint['optimizer'].get('state', {})
            parameters = sum(len(group['params']) for group in self.optim_wrapper.optimizer.param_groups)
            restored.insert(0, f'optimizer state of {len(entries)} of {parameters} parameters')
        if states:
            restored.insert(1, f'{len(states)} schedules')
        self.weights_in_words = (
            f'resumed from {filename}, epoch {self.epoch} of {self.max_epochs}, '
            f'iteration {self.iter} of {self.max_iters}'
        )
        first = self.optim_wrapper.param_groups[0]
        values = ''.join(f', {name} now {first[name]:g}' for name in _LOGGED if name in first)
        self.logger.info(
            f'resumed {filename}: {", ".join(restored)}; epoch {self.epoch} of {self.max_epochs}, '
            f'iteration {self.iter} of {self.max_iters}{values}'
        )

    def _resume_steps(self, state: dict, states: list[dict], iteration: int) -> None:
        """Loads the states of optimizer and schedules; changed settings in this run's config take precedence."""
        wrapper, schedulers = self.optim_wrapper, self.param_schedulers or []
        fresh = settings_of(wrapper)
        state = keep_implementation(state, fresh)
        if is_sharded(self.model):
            state = spread_optimizer_state(state, wrapper.optimizer)
        wrapper.load_state_dict(state)
        changed = changed_settings(fresh, settings_of(wrapper))
        reshaped = bool(self.cfg.get('accept_changes')) and shapes_differ(schedulers, states)
        if not reshaped:
            for scheduler, saved in zip(schedulers, states, strict=True):
                scheduler.load_state_dict(saved)
        if changed or reshaped:
            take_settings(wrapper, schedulers, fresh, *steps_done(states, iteration, self.step_counter))
        for name, (old, new) in changed.items():
            self.logger.info(f'{name} of the optimizer: {old} -> {new}, before any schedule')
        if reshaped:
            self.logger.info('the schedules are those of this config, from the resumed iteration on')

    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: dict | None = None,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: dict | None = None,
        by_epoch: bool = True,
        backend_args: dict | None = None,
    ) -> None:
        """Writes a checkpoint atomically: a killed process never leaves a partial file.

        The checkpoint of a sharded model is a folder ``NAME.dcp``, into which every process writes its shards.

        Args:
            out_dir: a local folder.
            filename: the name in it.
            file_client_args: not supported.
            save_optimizer: include the optimizer's state, which resuming needs.
            save_param_scheduler: include the schedules' state, which resuming needs.
            meta: further entries of ``meta``.
            by_epoch: called at the end of an epoch, rather than after an iteration.
            backend_args: not supported.
        """
        if file_client_args or backend_args:
            raise UsageError(f'checkpoints are written to local folders only, not with {backend_args}.')
        model = unwrapped(self.model)
        sharded = is_sharded(model)
        self.call_hook('before_gathering_checkpoint', inside_epoch=not by_epoch)  # on all processes
        if not sharded and not is_main_process():
            return
        counter = self.step_counter
        reached = dict(epoch=self.epoch + 1, iter=self.iter) if by_epoch else dict(epoch=self.epoch, iter=self.iter + 1)
        checkpoint: dict[str, Any] = dict(
            meta={
                **reached,
                'cfg': self._config_text,
                'run': self._run_id,
                'seed': self.seed,
                'experiment_name': self.experiment_name,
                'time': time.strftime('%Y%m%d_%H%M%S', time.localtime()),
                'mmengine_version': mmengine.__version__,
                'counter': dict(
                    iters_per_epoch=counter.iters_per_epoch,
                    accumulative_counts=counter.accumulative_counts,
                    max_epochs=counter.max_epochs,
                ),
                'data': self._data,
                'data_order': data_order(self.train_loop.dataloader),
                **self._classes(),
                **(meta or {}),
            },
            state_dict=model.state_dict(),
            message_hub=checkpointing.hub_state(self.message_hub),
        )
        if save_optimizer:
            checkpoint['optimizer'] = self.optim_wrapper.state_dict()
        if save_param_scheduler and self.param_schedulers is not None:
            checkpoint['param_schedulers'] = [scheduler.state_dict() for scheduler in self.param_schedulers]
        self.call_hook('before_save_checkpoint', checkpoint=checkpoint)
        if sharded:
            save_sharded(checkpoint, Path(out_dir) / filename)
        else:
            checkpointing.save(checkpoint, Path(out_dir) / filename)

    def _classes(self) -> dict[str, Any]:
        """Class names and colors of the training data as ``dataset_meta``, which OpenMMLab's inferencers read."""
        facts = checkpointing.plain_part(metainfo_of(self.train_loop.dataloader.dataset))
        return dict(dataset_meta=facts) if facts else {}
