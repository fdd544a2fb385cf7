"""Ends a training between two steps when a signal asks for it, with a checkpoint from which --resume goes on."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Any

import torch
from mmengine import dist
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from mstkit.engine.checkpoints.resumable_runner import ResumableRunner
from mstkit.engine.checkpoints.run_ending import EndsInsideEpochs, last_good
from mstkit.engine.hooks.progress_hook import optimizer_stepped
from mstkit.engine.hooks.step_values import Step, StepValuesHook
from mstkit.errors import StoppedBySignal
from mstkit.registry import HOOKS


@HOOKS.register_module()
class StopSignalHook(StepValuesHook):
    """Reads the signals that the runner has noted, and stops after the step in which one came.

    SIGINT (Ctrl-C), SIGTERM (``kill``, Slurm, Kubernetes) and SIGHUP (a closed terminal) are noted while a run trains
    (:attr:`mstkit.engine.checkpoints.resumable_runner.ResumableRunner.signals`). After the iteration, and after the
    rest of its accumulation, all checkpoint hooks are asked for a checkpoint (``save_at_stop``), and
    :class:`mstkit.errors.StoppedBySignal` is raised. A second signal ends the run at once.

    Several processes agree on it, since one may be told before the others: after every step on the CPU, on a GPU when a
    line of the log is due, so that no step waits for the device because of it. So ``default_hooks.logger.interval``
    says how many steps a run may still make there.

    :class:`mstkit.engine.runner.mst_runner.MSTRunner` adds it to every training.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        super().__init__()
        self._wanted = 0

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Stops the run if a signal came and no gradients are kept."""
        if dist.get_world_size() == 1:
            self._wanted = self._wanted or _received(runner)
        else:
            super().after_train_iter(runner, batch_idx, data_batch, outputs)
        if self._wanted and optimizer_stepped(runner.optim_wrapper):
            _stop(runner, self._wanted)

    def take(self, runner: Runner, steps: Sequence[Step]) -> None:
        """Asks all processes whether one of them has received a signal."""
        number = torch.tensor(_received(runner))
        dist.all_reduce(number, op='max')
        self._wanted = int(number)


def _received(runner: Runner) -> int:
    """The first signal that came, by its number; 0 if none did."""
    signals = runner.signals if isinstance(runner, ResumableRunner) else ()
    return int(signals[0]) if signals else 0


def _stop(runner: Runner, number: int) -> None:
    loop, before = runner.train_loop, last_good(runner.work_dir)
    where = f' after iteration {runner.iter + 1}'
    if isinstance(loop, EpochBasedTrainLoop):
        where += f' (epoch {runner.epoch + 1})'
    if isinstance(loop, EndsInsideEpochs | IterBasedTrainLoop):
        runner.call_hook('save_at_stop')
        dist.barrier()  # a process that ends first would end the one that writes
    path = last_good(runner.work_dir)
    if path is None:
        rest = '. There is no checkpoint.'
    elif path == before:
        rest = f'. The last checkpoint is {path}: --resume goes on from there.'
    else:
        rest = f', with a checkpoint: --resume goes on from {path}.'
    raise StoppedBySignal(signal.Signals(number), f'{where}{rest}')
