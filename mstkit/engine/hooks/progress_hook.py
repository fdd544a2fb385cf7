"""Tells the model and the optimizer wrapper the current step, and seeds the random generators of every step."""

from __future__ import annotations

import random

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, Runner

from mstkit.engine.optim.optim_wrapper import DistillationOptimWrapper
from mstkit.engine.optim.step_counts import StepCounter, mix_seed
from mstkit.engine.parallel.distributed import unwrapped
from mstkit.errors import UsageError
from mstkit.models import interface_of
from mstkit.registry import HOOKS
from mstkit.utils.private_attributes import accumulative_counts

_FETCH, _STEP = 0, 1  # the use of the global generators: fetching a batch, or a training step


@HOOKS.register_module()
class ProgressHook(Hook):
    """Calls ``set_progress`` before every iteration and ``after_step`` after every optimizer step.

    The global generators (torch on every device, numpy, random) are re-seeded from (seed, rank, iteration) before the
    data of an iteration is fetched and again before its forward pass. So the random numbers of a step do not depend on
    earlier steps, and a resumed run is bit-identical without saved generator states. (Data workers have their own
    generators; mstkit's transforms derive their randomness from the sample and use none.)

    For a model that is not a :class:`mstkit.models.TrainedModel`, such as mmpretrain's MAE, it only re-seeds.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Sets up the :class:`mstkit.engine.optim.step_counts.StepCounter` of the run."""
        loop, wrapper = runner.train_loop, runner.optim_wrapper
        if not isinstance(loop, EpochBasedTrainLoop):
            raise UsageError(
                f'ProgressHook counts epochs, but the train loop is a {type(loop).__name__}: '
                'use train_cfg=dict(by_epoch=True, max_epochs=...).'
            )
        self._model = interface_of(unwrapped(runner.model))
        self._rank_seed = mix_seed(runner.seed, runner.rank)
        counts = accumulative_counts(wrapper)
        self._counter = StepCounter(loop.max_iters // loop.max_epochs, loop.max_epochs, counts)

    def before_train_epoch(self, runner: Runner) -> None:
        """Seeds the generators for fetching the first batch of the epoch."""
        self._reseed(runner.iter, _FETCH)

    def before_first_fetch(self, runner: Runner) -> None:
        """Seeds again after the data loader's iterator is created; ``ResumableEpochLoop`` calls it."""
        self._reseed(runner.iter, _FETCH)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Sets the progress of model and optimizer wrapper, and seeds the generators for the forward pass."""
        progress = self._counter.progress(runner.iter, self._rank_seed)
        self._model.set_progress(progress)
        if isinstance(runner.optim_wrapper, DistillationOptimWrapper):
            runner.optim_wrapper.set_progress(progress)
        self._reseed(runner.iter, _STEP)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Updates teacher and center after an optimizer step, and seeds the generators for fetching the next batch."""
        if optimizer_stepped(runner.optim_wrapper):
            self._model.after_step()
        self._reseed(runner.iter + 1, _FETCH)

    def _reseed(self, iteration: int, purpose: int) -> None:
        seed = mix_seed(self._rank_seed, iteration, purpose)
        torch.manual_seed(seed)
        np.random.seed(seed & 0xFFFFFFFF)
        random.seed(seed)


def optimizer_stepped(optim_wrapper: OptimWrapper) -> bool:
    """Whether the iteration that just ended included an optimizer step."""
    return (
        optim_wrapper.stepped if isinstance(optim_wrapper, DistillationOptimWrapper) else optim_wrapper.should_update()
    )
